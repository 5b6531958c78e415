"""A seccomp filter that allows only the system calls of pure computation and kills the process on any other.

Allowed: reading the input pipe, writing the output pipe, non-executable memory, clocks, the process's own timer, exit.
Forbidden: all others, such as socket, open, exec, fork, clone, kill, ptrace, prctl. Sources: seccomp(2),
linux/filter.h, linux/audit.h and the system call tables of the two architectures.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from dataclasses import dataclass

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_KILL, _ALLOW = 0x80000000, 0x7FFF0000
_LOAD, _JUMP_EQUAL, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_NUMBER_AT, _ARCH_AT, _ARGUMENTS_AT = 0, 4, 16
_PROT_EXEC = 4
_STDIN, _STDOUT = 0, 1


class Unsupported(Exception):
    """The architecture is unknown, or the kernel does not accept filters."""


@dataclass(frozen=True)
class _Machine:
    """One architecture: its audit number and the numbers of the allowed system calls."""

    audit: int
    read: int
    write: int
    maps: tuple[int, ...]
    """mmap, mprotect: allowed unless the third argument requests executable memory."""
    free: tuple[int, ...]
    """munmap mremap brk madvise futex exit exit_group clock_gettime clock_getres rt_sigreturn rt_sigprocmask
    rt_sigaction setitimer getrandom restart_syscall sched_yield getrusage times gettimeofday."""


_MACHINES = {
    "x86_64": _Machine(
        audit=0xC000003E,
        read=0,
        write=1,
        maps=(9, 10),
        free=(11, 25, 12, 28, 202, 60, 231, 228, 229, 15, 14, 13, 38, 318, 219, 24, 98, 100, 96),
    ),
    "aarch64": _Machine(
        audit=0xC00000B7,
        read=63,
        write=64,
        maps=(222, 226),
        free=(215, 216, 214, 233, 98, 93, 94, 113, 114, 139, 135, 134, 103, 278, 128, 124, 165, 153, 169),
    ),
}


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))


def install(libc: ctypes.CDLL) -> None:
    """Installs the filter permanently; requires `PR_SET_NO_NEW_PRIVS`. Raises `Unsupported`."""
    machine = _MACHINES.get(platform.machine())
    if machine is None or sys.byteorder != "little" or struct.calcsize("P") != 8:
        raise Unsupported(f"no table of system calls for {platform.machine()!r}")
    code = ctypes.create_string_buffer(_assemble(machine))
    program = _Program(len(code.raw) // 8, ctypes.cast(code, ctypes.c_void_p))
    if libc.prctl(_PR_SET_SECCOMP, ctypes.c_ulong(_MODE_FILTER), ctypes.byref(program), ctypes.c_ulong(0), 0) != 0:
        raise Unsupported(f"seccomp: {os.strerror(ctypes.get_errno())}")


def _instruction(code: int, operand: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, operand)


def _assemble(machine: _Machine) -> bytes:
    lines = [
        _instruction(_LOAD, _ARCH_AT),
        _instruction(_JUMP_EQUAL, machine.audit, 1, 0),
        _instruction(_RETURN, _KILL),
        _instruction(_LOAD, _NUMBER_AT),
        *_allow_with_argument(machine.read, 0, _JUMP_EQUAL, _STDIN, allow_when=True),
        *_allow_with_argument(machine.write, 0, _JUMP_EQUAL, _STDOUT, allow_when=True),
    ]
    for number in machine.maps:
        lines += _allow_with_argument(number, 2, _JUMP_ANY_BIT, _PROT_EXEC, allow_when=False)
    for number in machine.free:
        lines += [_instruction(_JUMP_EQUAL, number, 0, 1), _instruction(_RETURN, _ALLOW)]
    return b"".join([*lines, _instruction(_RETURN, _KILL)])


def _allow_with_argument(number: int, argument: int, test: int, operand: int, *, allow_when: bool) -> list[bytes]:
    """Allows a system call if a test of the low half of an argument gives `allow_when`, else kills; skips other
    calls."""
    verdicts = (_ALLOW, _KILL) if allow_when else (_KILL, _ALLOW)
    return [
        _instruction(_JUMP_EQUAL, number, 0, 4),
        _instruction(_LOAD, _ARGUMENTS_AT + 8 * argument),
        _instruction(test, operand, 0, 1),
        _instruction(_RETURN, verdicts[0]),
        _instruction(_RETURN, verdicts[1]),
    ]
