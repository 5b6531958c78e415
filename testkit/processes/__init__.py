"""Starts the command line in a process of its own, and where tests ask for it, one that has its imports already."""

from __future__ import annotations

import atexit
import json
import os
import resource
import select
import socket
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

DUSTRUN = (sys.executable, "-m", "dustrun")
"""The command line as a process of its own."""
ROOT = Path(__file__).resolve().parent.parent.parent
INHERITED = (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE, resource.RLIMIT_AS)
"""Limits that a test may set for what it starts."""
_shares_imports = False
_more: list[str] = []


def share_imports() -> None:
    """From now on commands begin in processes that have imported Dustrun, where the system can do so."""
    global _shares_imports
    _shares_imports = sys.platform == "linux"


def shares_imports() -> bool:
    """Whether they do: this is a process of tests, and no benchmark."""
    return _shares_imports


def start_fork_server() -> None:
    """Has those processes be made by one server for this process and its forks; it imports beside what follows here."""
    if _shares_imports:
        _fork_server()


def share_more(*modules: str) -> None:
    """From now on those processes have these modules too, which take seconds to import."""
    _more.extend(name for name in modules if name not in _more)


def start(command: Sequence[str], **how: Any) -> subprocess.Popen[Any]:
    """As `subprocess.Popen`, of which it takes the standard streams, `env`, `cwd`, `text` and `start_new_session`."""
    if _shares_imports and tuple(command[:3]) == DUSTRUN:
        return _Forked(command, **how)
    return subprocess.Popen(command, **how)


def run(
    command: Sequence[str], *, input: str | None = None, timeout: float = 120, **how: Any
) -> subprocess.CompletedProcess[str]:
    """As `subprocess.run` with text, whose output is captured and whose exit status is for the caller to judge."""
    stdin = subprocess.DEVNULL if input is None else subprocess.PIPE
    with start(command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **how) as process:
        try:
            out, err = process.communicate(input, timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)


class _Forked(subprocess.Popen[Any]):
    """A process of the fork server. Somebody there waits for it, and keeps its id until this object has its status."""

    def _execute_child(
        self,
        args: Sequence[str],
        executable: Any,
        preexec_fn: Any,
        close_fds: Any,
        pass_fds: Any,
        cwd: Any,
        env: Any,
        startupinfo: Any,
        creationflags: Any,
        shell: Any,
        p2cread: int,
        p2cwrite: int,
        c2pread: int,
        c2pwrite: int,
        errread: int,
        errwrite: int,
        restore_signals: Any,
        gid: Any,
        gids: Any,
        uid: Any,
        umask: Any,
        start_new_session: bool,
        process_group: Any,
    ) -> None:
        request = {
            "argv": ["dustrun", *args[len(DUSTRUN) :]],
            "environment": dict(os.environ if env is None else env),
            "folder": os.fspath(cwd or Path.cwd()),
            "is_session": start_new_session,
            "modules": _more,
            "limits": {number: resource.getrlimit(number) for number in INHERITED},
        }
        streams = [number if given == -1 else given for number, given in enumerate((p2cread, c2pwrite, errwrite))]
        self._parent, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(_fork_server(), [json.dumps(request).encode()], [*streams, theirs.fileno()])
        self.pid = self._told()
        self._child_created = True
        self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)  # type: ignore[attr-defined]

    def _told(self) -> int:
        number = self._parent.recv(4)
        if not number:
            raise ChildProcessError("the server that forks has ended")
        return int.from_bytes(number)

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        """As `os.waitpid`."""
        waiting = select.poll()
        waiting.register(self._parent, select.POLLIN)
        if wait_flags & os.WNOHANG and not waiting.poll(0):
            return 0, 0
        status = self._told()
        self._parent.close()
        return self.pid, status

    def _internal_poll(self, *_: Any, **__: Any) -> int | None:
        if self.returncode is None and self._waitpid_lock.acquire(False):  # type: ignore[attr-defined]
            try:
                if self.returncode is None:
                    pid, status = self._try_wait(os.WNOHANG)
                    if pid:
                        self._handle_exitstatus(status)  # type: ignore[attr-defined]
            finally:
                self._waitpid_lock.release()  # type: ignore[attr-defined]
        return self.returncode


@cache
def _fork_server() -> socket.socket:
    """One for this process and its forks; it ends with them."""
    own, others = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with others:
        command = [sys.executable, "-m", "testkit.processes.fork_server", str(others.fileno())]
        process = subprocess.Popen(command, pass_fds=[others.fileno()], cwd=ROOT, stdin=subprocess.DEVNULL)
    atexit.register(process.wait)
    atexit.register(own.close)  # the last that is registered is called first
    return own
