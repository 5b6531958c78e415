"""The chain's process: anvil on the loopback address, with its state in a file."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

CHAIN_ID = 31337
_SAVE_EVERY_S = 30  # what a crash may lose
_READY_WITHIN_S = 30.0
_STOP_WITHIN_S = 10.0


class NodeFault(Exception):
    """The node did not start, or answered with an error."""


class Busy(NodeFault):
    """A node that nobody ended, or another show, has the folder."""


class Node:
    """What is asked of a running node."""

    def __init__(self, port: int, pid: int) -> None:
        self.port = port
        self.pid = pid
        self.url = f"http://127.0.0.1:{port}"

    def ask(self, method: str, *params: Any) -> Any:
        """One JSON-RPC call; raises `NodeFault`, and OSError when nobody answers."""
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("POST", "/", body, {"Content-Type": "application/json"})
            answer = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        if "error" in answer:
            raise NodeFault(f"{method}: {answer['error'].get('message')}")
        return answer["result"]

    @property
    def genesis(self) -> str:
        """Hash of block 0: another one for every new chain."""
        return str(self.ask("eth_getBlockByNumber", "0x0", False)["hash"])


@contextlib.contextmanager
def running(anvil: Path, port: int, state: Path, log_path: Path) -> Iterator[Node]:
    """A node that goes on from `state`, and writes it when it ends; it is stopped by its own process id. Raises `Busy`
    when a node is on that state already, for two would overwrite each other."""
    words = ["--quiet", "--host", "127.0.0.1", "--port", str(port), "--chain-id", str(CHAIN_ID)]
    words += [
        "--state",
        str(state),
        "--state-interval",
        str(_SAVE_EVERY_S),
        "--cache-path",
        str(state.parent / "cache"),
    ]
    with log_path.open("ab") as log, _locked(state.with_suffix(".lock")) as lock:
        _keep_first_genesis(state)
        # in a session of its own: Ctrl-C reaches us alone, and the server ends before its chain. It holds the lock
        # for as long as it lives, even if nobody is left to end it.
        command = [str(anvil), *words]
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, pass_fds=(lock.fileno(),))
        lock.write(str(process.pid))
    try:
        node = Node(port, process.pid)
        _wait_until_ready(node, process, log_path)
        yield node
    finally:
        _stop(process)


def _keep_first_genesis(state: Path) -> None:
    """Removes the block 0 that anvil adds to its state at every start: with several, any of them may become the chain's
    genesis. The first has the lowest timestamp. A state that cannot be read is left for anvil to reject."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        kept = json.loads(state.read_text())
        first, *added = sorted(filter(_is_genesis, kept["blocks"]), key=_timestamp)
        if added:
            kept["blocks"] = [first, *(block for block in kept["blocks"] if not _is_genesis(block))]
            written = state.with_suffix(".new")
            written.write_text(json.dumps(kept))
            written.replace(state)


def _is_genesis(block: dict[str, Any]) -> bool:
    return int(block["header"]["number"], 16) == 0


def _timestamp(block: dict[str, Any]) -> int:
    return int(block["header"]["timestamp"], 16)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[TextIO]:
    """The lock of a state, empty, to write the node's process id into."""
    with path.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise Busy(f"process {lock.read()}, of another start, has {path.parent}; end it first") from None
        lock.truncate(0)
        yield lock


def _wait_until_ready(node: Node, process: subprocess.Popen[bytes], log_path: Path) -> None:
    deadline = time.monotonic() + _READY_WITHIN_S
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if int(node.ask("eth_chainId"), 16) == CHAIN_ID and _saves_when_ended(process.pid):
                return
        time.sleep(0.02)
    tail = "\n".join(log_path.read_text(errors="replace").splitlines()[-5:])
    raise NodeFault(f"anvil did not start: {tail}")


def _saves_when_ended(pid: int) -> bool:
    """Whether anvil handles SIGTERM yet. It answers requests a little earlier, and a process that is ended then has
    saved nothing. Only Linux tells."""
    with contextlib.suppress(OSError, StopIteration, ValueError):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        caught = next(line.split()[1] for line in lines if line.startswith("SigCgt:"))
        return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)
    return True


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
