"""A real EVM node for a test: anvil from npm, started in some 40 ms, watched, and stopped by its own process id."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import platform
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

from testkit.e2e.guide import ROOT
from testkit.e2e.node import npm_install
from testkit.ports import free_port

FOLDER = ROOT / "scripts" / "devchain"
CHAIN_ID = 31337
# The node's own development accounts, funded with 10,000 ether each; everybody knows these keys.
KEYS = (
    "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
    "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
    "0x5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a",
    "0x7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6",
)
ACCOUNTS = (
    "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
    "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
    "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC",
    "0x90F79bf6EB2c4f870365E785982E1f101E93b906",
)
_READY_WITHIN_S = 30
_STOP_WITHIN_S = 10
_PACKAGES = {
    ("Linux", "x86_64"): "anvil-linux-amd64",
    ("Linux", "aarch64"): "anvil-linux-arm64",
    ("Darwin", "x86_64"): "anvil-darwin-amd64",
    ("Darwin", "arm64"): "anvil-darwin-arm64",
}


class NodeError(Exception):
    """The node answered with an error."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(f"{error.get('code')}: {error.get('message')}")
        self.error = error


def binary() -> Path:
    """Where anvil lies, installed if need be; a machine without it fails the test."""
    npm_install(FOLDER)
    package = _PACKAGES[platform.system(), platform.machine()]
    found = FOLDER / "node_modules" / "@foundry-rs" / package / "bin" / "anvil"
    assert found.is_file(), f"{package} is not installed: npm left out an optional dependency"
    return found


class Rpc:
    """One blocking connection for what the test itself asks of the node."""

    def __init__(self, port: int) -> None:
        self.asked: set[str] = set()
        """The methods that were called."""
        self._port = port
        self._connection: http.client.HTTPConnection | None = None

    def __call__(self, method: str, *params: Any) -> Any:
        self.asked.add(method)
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        answer = json.loads(self._post(body))
        if "error" in answer:
            raise NodeError(answer["error"])
        return answer["result"]

    def _post(self, body: str) -> bytes:
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            self._connection.request("POST", "/", body, {"content-type": "application/json"})
            return self._connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            self.close()
            raise

    def close(self) -> None:
        """Closes the connection; the next call opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Anvil:
    """A node on 127.0.0.1. `words` are more options; `state` is a file of `dump`; `fork` is another node's URL."""

    def __init__(
        self, *words: str, state: Path | None = None, fork: str | None = None, chain_id: int = CHAIN_ID
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.chain_id = chain_id
        self.rpc = Rpc(self.port)
        chain = ["--fork-url", fork, "--no-storage-caching"] if fork else ["--chain-id", str(chain_id)]
        load = ["--load-state", str(state)] if state else []
        # old states go to disk, by default to the user's own folder, where nobody deletes them
        self._old_states = tempfile.TemporaryDirectory(prefix="dustrun-anvil-", ignore_cleanup_errors=True)
        own = ["--host", "127.0.0.1", "--port", str(self.port), "--cache-path", self._old_states.name]
        own += ["--accounts", str(len(ACCOUNTS))]  # to derive the keys of ten is a third of what a start takes
        self._words = [*own, *chain, *load, *words]
        self._process: subprocess.Popen[bytes] | None = None
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 (closed by __exit__)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._output.close()
            self._old_states.cleanup()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._output.close()
        self._old_states.cleanup()

    @property
    def is_running(self) -> bool:
        """Whether the node's process is there."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The node's process."""
        assert self._process is not None, "the node does not run"
        return self._process.pid

    def start(self) -> None:
        """Starts the node, or starts it anew on the same port; raises when it ends before it answers."""
        assert self._process is None, "the node runs already"
        self._process = subprocess.Popen([str(binary()), *self._words], stdout=self._output, stderr=subprocess.STDOUT)
        until = time.monotonic() + _READY_WITHIN_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                self.stop()
                raise AssertionError(f"anvil did not start:\n{self.output()}")
            time.sleep(0.005)

    def _answers(self) -> bool:
        try:
            return bool(self.rpc("eth_chainId"))
        except (OSError, http.client.HTTPException):
            return False

    def stop(self) -> None:
        """Ends this node and no other."""
        self.rpc.close()
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def output(self) -> str:
        """The last of what the node printed."""
        self._output.seek(0)
        return self._output.read().decode(errors="replace")[-4000:]

    def snapshot(self) -> str:
        """Remembers the state; gives what `revert` takes."""
        return str(self.rpc("evm_snapshot"))

    def revert(self, snapshot: str) -> None:
        """Goes back to a snapshot, which is then used up."""
        assert self.rpc("evm_revert", snapshot) is True

    def mine(self, blocks: int = 1, seconds: int = 1) -> None:
        """Makes blocks, so many seconds apart."""
        self.rpc("anvil_mine", hex(blocks), hex(seconds))

    def reorg(self, depth: int) -> None:
        """Replaces the newest blocks by as many empty ones; their transactions are lost."""
        self.rpc("anvil_reorg", depth, [])

    def set_balance(self, address: str, units: int) -> None:
        """Gives an address exactly so much native coin."""
        self.rpc("anvil_setBalance", address, hex(units))

    def set_automine(self, mines: bool) -> None:
        """Whether each transaction makes a block at once; else `mine` does."""
        self.rpc("evm_setAutomine", mines)

    def dump(self, file: Path) -> None:
        """Writes the whole state to a file that `state` takes."""
        file.write_bytes(gzip.decompress(bytes.fromhex(self.rpc("anvil_dumpState")[2:])))

    def processor_s(self) -> float:
        """Processor time that the node has used so far (Linux)."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss_mib(self) -> float:
        """Resident memory of the node in MiB (Linux)."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024
        raise AssertionError("the node has no VmRSS")
