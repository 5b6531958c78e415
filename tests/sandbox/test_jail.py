"""What the process has and can do, seen from the outside."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dustrun.sandbox import Sandbox
from dustrun.sandbox import worker as worker_package
from sandbox.limits_in_tests import Run

WORKER = Path(worker_package.__file__).parent
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
sees_all = pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="the process is not dumpable")


async def one_pid(sandbox: Sandbox, run: Run) -> int:
    await run("return 1")
    (pid,) = sandbox.pids
    return pid


@sees_all
async def test_environment_is_empty(sandbox: Sandbox, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUSTRUN_CANARY", "canary-4f1e")
    pid = await one_pid(sandbox, run)
    assert Path(f"/proc/{pid}/environ").read_bytes() == b""
    assert b"canary" not in Path(f"/proc/{pid}/cmdline").read_bytes()


@sees_all
async def test_memory_holds_no_secret_of_the_server(
    sandbox: Sandbox, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = b"canary-" + os.urandom(12).hex().encode()
    monkeypatch.setenv("DUSTRUN_CANARY", secret.decode())
    pid = await one_pid(sandbox, run)
    assert b"QuickJS" in _memory(pid) or b"Uint8ClampedArray" in _memory(pid), "the search looks at real memory"
    assert secret not in _memory(pid)


@sees_all
async def test_descriptors_are_its_pipes_only(sandbox: Sandbox, run: Run) -> None:
    with open(__file__) as held, open(os.devnull) as other:
        os.set_inheritable(held.fileno(), True)
        os.set_inheritable(other.fileno(), True)
        pid = await one_pid(sandbox, run)
        folder = Path(f"/proc/{pid}/fd")
        found = {entry.name: os.readlink(entry) for entry in folder.iterdir()}
    assert sorted(found) == ["0", "1", "2"]
    assert found["2"] == "/dev/null"
    assert all(found[name].startswith(("pipe:", "socket:")) for name in "01")


@linux
async def test_process_is_locked_up(sandbox: Sandbox, run: Run) -> None:
    pid = await one_pid(sandbox, run)
    layers = await sandbox.describe()
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    assert status["NoNewPrivs"] == "1"
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
    assert set(status["Uid"].split()) != {"0"}
    assert os.getsid(pid) == pid != os.getsid(0)
    assert layers["resource limits"] == layers["memory limit"] == "active"
    if layers["seccomp: compute only"] == "active":
        assert status["Seccomp"] == "2"


@sees_all
async def test_process_runs_nowhere_with_limits(sandbox: Sandbox, run: Run) -> None:
    pid = await one_pid(sandbox, run)
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    limits = Path(f"/proc/{pid}/limits").read_text()
    for name in ("Max file size", "Max processes", "Max core file size", "Max locked memory"):
        (line,) = (line for line in limits.splitlines() if line.startswith(name))
        assert line.removeprefix(name).split()[:2] == ["0", "0"]
    assert os.stat(f"/proc/{pid}/ns/net").st_ino != os.stat("/proc/self/ns/net").st_ino


FORBIDDEN = {
    "socket": "import socket; ready(); socket.socket()",
    "open": "ready(); open('/etc/passwd')",
    "fork": "ready(); os.fork()",
    "exec": "ready(); os.execv('/bin/true', ['true'])",
    "kill": "ready(); os.kill(os.getppid(), 0)",
    "other output": "ready(); os.write(2, b'x')",
    "other input": "ready(); os.read(1, 1)",
    "executable memory": "import mmap; ready(); mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC)",
    "files by another call": "ready(); os.listdir('/')",
    "setting limits": "ready(); jail.resource.setrlimit(jail.resource.RLIMIT_CORE, (0, 0))",
}


@linux
@pytest.mark.parametrize("attempt", FORBIDDEN.values(), ids=FORBIDDEN.keys())
def test_broken_out_script_is_killed_by_the_kernel(attempt: str) -> None:
    done = _in_jail(attempt)
    if b"seccomp: compute only': 'active" not in done.stdout:
        pytest.skip("no seccomp here")
    assert done.returncode == -signal.SIGSYS


@linux
def test_allowed_calls_work_in_the_jail() -> None:
    done = _in_jail("ready(); x = bytearray(1 << 24); del x; os.write(1, os.read(0, 5)); os._exit(3)", b"hello")
    assert done.stdout.endswith(b"hello")
    assert done.returncode == 3


@linux
def test_memory_beyond_the_limit_is_refused_behind_every_layer() -> None:
    limited = "print(jail.resource.getrlimit(jail.resource.RLIMIT_AS)[1] != jail.resource.RLIM_INFINITY, end=' ')"
    attempt = f"jail.seccomp.install = lambda libc: None; ready(); {limited}; bytearray(1 << 30)"
    done = _in_jail(attempt)
    assert b"'memory limit': 'active'" in done.stdout
    assert done.stdout.endswith(b"True ")
    assert b"MemoryError" in done.stderr


@linux
def test_memory_limit_that_cannot_be_set_is_not_called_active() -> None:
    done = _in_jail("jail._mapped_bytes = lambda: None; ready()")
    assert b"'memory limit': 'the mapped memory cannot be read" in done.stdout


@linux
def test_files_are_gone_without_the_filter_too() -> None:
    done = _in_jail("jail.seccomp.install = lambda libc: None; ready(); open('/etc/passwd')")
    assert done.returncode == 1


async def test_orphan_ends_with_its_input(sandbox: Sandbox, run: Run) -> None:
    pid = await one_pid(sandbox, run)
    (process,) = sandbox._pool.live
    process._stdin.close()
    for _ in range(3_000):
        if not process.alive:
            break
        await asyncio.sleep(0.02)
    assert not process.alive, pid


def _in_jail(attempt: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    program = (
        f"import sys, os; sys.path.insert(0, {str(WORKER)!r}); import jail\n"
        "def ready(): os.write(1, str(jail.close(64 << 20, 5)).encode())\n"
        f"{attempt}"
    )
    return subprocess.run([sys.executable, "-c", program], input=given, capture_output=True, env={}, timeout=20)


def _memory(pid: int) -> bytes:
    """All writable memory of a process."""
    found = bytearray()
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            span, access, *_ = line.split()
            start, end = (int(part, 16) for part in span.split("-"))
            if access.startswith("rw"):
                memory.seek(start)
                found += memory.read(end - start)
    return bytes(found)
