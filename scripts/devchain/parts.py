"""What the local chain is made of: anvil, and contracts that come from npm when it is first started.

The licences of Uniswap and WETH9 are not ours, so their code is installed and never committed. Our own contracts come
compiled (`contracts.json`).
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import platform
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]
LOG = ROOT / ".tools" / "devchain.log"  # what pip and npm said at the last attempt
_MODULES = FOLDER / "node_modules"
_ANVILS = {
    ("Linux", "x86_64"): "anvil-linux-amd64",
    ("Linux", "aarch64"): "anvil-linux-arm64",
    ("Darwin", "x86_64"): "anvil-darwin-amd64",
    ("Darwin", "arm64"): "anvil-darwin-arm64",
}
_V3 = "@uniswap/v3-periphery/artifacts/contracts"
_FROM_NPM = {
    "WETH9": "canonical-weth/build/contracts/WETH9.json",
    "V2Factory": "@uniswap/v2-core/build/UniswapV2Factory.json",
    "V2Router": "@uniswap/v2-periphery/build/UniswapV2Router02.json",
    "V3Factory": "@uniswap/v3-core/artifacts/contracts/UniswapV3Factory.sol/UniswapV3Factory.json",
    "V3Router": f"{_V3}/SwapRouter.sol/SwapRouter.json",
    "V3Quoter": f"{_V3}/lens/QuoterV2.sol/QuoterV2.json",
    "V3Positions": f"{_V3}/NonfungiblePositionManager.sol/NonfungiblePositionManager.json",
}
# A registry that does not answer is given up soon; npm alone would try for minutes. What is set already wins.
_IMPATIENT = {
    "npm_config_fetch_retries": "1",
    "npm_config_fetch_retry_mintimeout": "1000",
    "npm_config_fetch_timeout": "60000",
    "PIP_RETRIES": "1",
}


class Missing(Exception):
    """The chain cannot be started: what is missing, and `mend`, what to do about it."""

    def __init__(self, what: str, mend: str) -> None:
        super().__init__(what)
        self.mend = mend


def make_ready() -> Path:
    """Where anvil lies; installs the parts if need be, and Node from PyPI for that. Raises `Missing`."""
    machine = (platform.system(), platform.machine())
    if machine not in _ANVILS:
        raise Missing(f"there is no anvil for {' on '.join(machine)}", "use Linux or macOS on x86-64 or ARM")
    with _alone():
        if not _is_installed():
            _install()
    found = _MODULES / "@foundry-rs" / _ANVILS[machine] / "bin" / "anvil"
    if not found.is_file():
        mend = f"remove {_MODULES.relative_to(ROOT)}, and see that `npm config get omit` does not say optional"
        raise Missing(f"npm left out {found.parents[1].name}, an optional package", mend)
    return found


@contextlib.contextmanager
def _alone() -> Any:
    """Keeps others, the tests among them, from installing at the same time."""
    tools = ROOT / ".tools"
    tools.mkdir(exist_ok=True)
    with (tools / "npm.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _is_installed() -> bool:
    """Whether `scripts/node-setup` has been here with this lock file; then no Node is needed any more."""
    stamp = _MODULES / ".setup"
    if not stamp.is_file():
        return False
    lock = (FOLDER / "package-lock.json").read_bytes()
    wanted = subprocess.run(["cksum"], input=lock, capture_output=True, check=True).stdout
    return stamp.read_bytes().split() == wanted.split()


def _install() -> None:
    print("Getting a local chain from npm (anvil and Uniswap's contracts, 70 MB, once) …", flush=True)
    if not _succeeds(["bash", "-c", "source scripts/node-setup"]):
        mend = "install Node 20 or newer with npm, or let this machine reach PyPI"
        raise Missing("there is no Node 20 or newer here, and none could be had from PyPI", mend)
    if not _succeeds(["bash", "scripts/node-setup", str(FOLDER.relative_to(ROOT))]):
        mend = "let this machine reach the npm registry (`npm config get registry` names it)"
        raise Missing("npm could not get anvil and Uniswap's contracts", mend)


def _succeeds(command: list[str]) -> bool:
    """Runs to the end, with what it says in `LOG`; is ended with all that it started when we are interrupted."""
    with (
        LOG.open("w") as log,
        subprocess.Popen(
            command,
            cwd=ROOT,
            env={**_IMPATIENT, **os.environ},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        ) as process,
    ):
        try:
            return process.wait() == 0
        except BaseException:
            _end_group(process)
            raise


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Ends a process and its children; npm does not always follow a polite signal."""
    os.killpg(process.pid, signal.SIGTERM)
    until = time.monotonic() + 2
    with contextlib.suppress(ProcessLookupError):
        while time.monotonic() < until:
            process.poll()  # else what has ended would still count
            os.killpg(process.pid, 0)
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)


@functools.cache
def artifact(name: str) -> tuple[list[dict[str, Any]], str]:
    """ABI and creation code of a contract: of npm's by the names above, else of our own by its name in Solidity."""
    if name in _FROM_NPM:
        found = json.loads((_MODULES / _FROM_NPM[name]).read_text())
        code = str(found["bytecode"])
        return found["abi"], code if code.startswith("0x") else f"0x{code}"
    found = json.loads((FOLDER / "contracts.json").read_text())[name]
    return found["abi"], found["bytecode"]
