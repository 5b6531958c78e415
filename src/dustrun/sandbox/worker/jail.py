"""Drops all privileges of this process that scripts do not need; each layer reports whether it is active.

Runs after all imports, since no file can be opened afterwards. A layer that the machine does not support is reported
but not fatal: the engine itself gives scripts no files, network or processes; the layers contain an exploit of it.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dustrun.sandbox.worker import seccomp
else:
    import seccomp

NOBODY = 65534
MARGIN_BYTES = 64 << 20
_NEW_USER_NET_IPC_UTS = 0x10000000 | 0x40000000 | 0x08000000 | 0x04000000
_NEW_NET_IPC_UTS = _NEW_USER_NET_IPC_UTS & ~0x10000000
_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 4, 38
_LANDLOCK_CREATE, _LANDLOCK_RESTRICT = 444, 446
_CAPABILITY_VERSION_3 = 0x20080522
_LANDLOCK_ALL_FILE_ACCESS = (1 << 13) - 1

Layers = dict[str, str]


class _Unavailable(Exception):
    """The machine does not support this layer; the message says why."""


def close(memory_bytes: int, cpu_seconds: int) -> Layers:
    """Locks down this process permanently; returns `active` or the reason why not for each layer."""
    layers: Layers = {}
    linux = sys.platform == "linux"
    libc = ctypes.CDLL(None, use_errno=True) if linux else None
    os.closerange(3, 1024)
    mapped_bytes = _mapped_bytes()  # before Landlock takes /proc away

    def layer(name: str, apply: Callable[[], None]) -> None:
        try:
            apply()
            layers[name] = "active"
        except (_Unavailable, OSError, ValueError) as error:
            layers[name] = str(error)

    layer("unprivileged user", _drop_root)
    if libc is not None:
        layer("no new privileges", lambda: _prctl(libc, _PR_SET_NO_NEW_PRIVS, 1))
        layer("own network namespace", lambda: _unshare(libc))
        layer("no capabilities", lambda: _drop_capabilities(libc))
        layer("landlock: no files", lambda: _landlock(libc))
    layer("resource limits", lambda: _limit_resources(cpu_seconds))
    layer("memory limit", lambda: _limit_address_space(mapped_bytes, memory_bytes))
    if libc is not None:
        layer("not dumpable", lambda: _prctl(libc, _PR_SET_DUMPABLE, 0))
        layer("seccomp: compute only", lambda: _filter_calls(libc))
    return layers


def _drop_root() -> None:
    if os.geteuid() != 0:
        return  # it is one already: the server's
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


def _check(result: int, what: str) -> int:
    if result < 0:
        raise _Unavailable(f"{what}: {os.strerror(ctypes.get_errno())}")
    return result


def _prctl(libc: ctypes.CDLL, option: int, value: int) -> None:
    zero = ctypes.c_ulong(0)
    _check(libc.prctl(option, ctypes.c_ulong(value), zero, zero, zero), "prctl")


def _unshare(libc: ctypes.CDLL) -> None:
    if libc.unshare(_NEW_USER_NET_IPC_UTS) != 0:
        _check(libc.unshare(_NEW_NET_IPC_UTS), "unshare")


def _drop_capabilities(libc: ctypes.CDLL) -> None:
    """Clears all capability sets; a new user namespace otherwise grants every capability within itself."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    none = (ctypes.c_uint32 * 6)()
    _check(libc.capset(ctypes.byref(header), ctypes.byref(none)), "capset")


def _landlock(libc: ctypes.CDLL) -> None:
    """A rule set that handles all file access rights and allows none (landlock(7), ABI version 1)."""
    handled = ctypes.c_uint64(_LANDLOCK_ALL_FILE_ACCESS)
    size = ctypes.c_size_t(ctypes.sizeof(handled))
    rules = _check(libc.syscall(_LANDLOCK_CREATE, ctypes.byref(handled), size, 0), "landlock")
    try:
        _check(libc.syscall(_LANDLOCK_RESTRICT, rules, 0), "landlock")
    finally:
        os.close(rules)


def _filter_calls(libc: ctypes.CDLL) -> None:
    try:
        seccomp.install(libc)
    except seccomp.Unsupported as error:
        raise _Unavailable(str(error)) from None


def _limit_resources(cpu_seconds: int) -> None:
    limits = {
        "RLIMIT_CORE": 0,
        "RLIMIT_CPU": cpu_seconds,
        "RLIMIT_FSIZE": 0,
        "RLIMIT_MEMLOCK": 0,
        "RLIMIT_MSGQUEUE": 0,
        "RLIMIT_NOFILE": 3,
        "RLIMIT_NPROC": 0,
    }
    for name, value in limits.items():
        kind = getattr(resource, name, None)
        if kind is not None:
            _lower(kind, value)
    # Python ignores this signal by default, so that exceeding RLIMIT_FSIZE would not kill the process.
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)


def _limit_address_space(mapped_bytes: int | None, memory_bytes: int) -> None:
    """Limits memory to what the interpreter has mapped already, plus the script's share; proves it by asking for
    more."""
    if mapped_bytes is None:
        raise _Unavailable("the mapped memory cannot be read from /proc/self/statm, so no limit is set")
    limit = mapped_bytes + memory_bytes + MARGIN_BYTES
    _lower(resource.RLIMIT_AS, limit)
    try:
        mmap.mmap(-1, limit).close()
    except (OSError, MemoryError):
        return
    raise _Unavailable("the kernel does not enforce the limit")


def _lower(kind: int, value: int) -> None:
    hard = resource.getrlimit(kind)[1]
    most = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (most, most))


def _mapped_bytes() -> int | None:
    try:
        with open("/proc/self/statm", "rb") as statm:
            return int(statm.read().split()[0]) * resource.getpagesize()
    except OSError:
        return None
