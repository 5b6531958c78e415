"""`scripts/up` as a newcomer starts it: the whole show, a restart, the way without npm; nothing is left running."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from served import ROOT, Served
from testkit.e2e.node import npm_install
from testkit.ports import free_port

_NOWHERE = "http://127.0.0.1:9"  # nobody listens there
_UP_ALREADY = """Dustrun is up already on {address}, with the data in {data}; nothing was started.
  documentation  {address}/docs
  to end it      Ctrl-C where it was started, or: kill {pid}
  for another    scripts/up --data-dir FOLDER
"""
_SETTINGS = ("DUSTRUN_", "PIP_", "npm_config_")


def _environment(**more: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(_SETTINGS)} | more


@contextlib.contextmanager
def started(*words: str, root: Path = ROOT, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """The show's process in a group of its own; what a failed test leaves of it is ended."""
    command = [sys.executable, "-u", str(root / "scripts" / "up.py"), *words]
    with subprocess.Popen(
        command,
        env=_environment(**environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()


def whole(*words: str, root: Path = ROOT, **environment: str) -> tuple[int, str]:
    """Exit status and output of a show that ends by itself."""
    with started(*words, root=root, **environment) as process:
        output, _ = process.communicate(timeout=300)
    return process.returncode, output


def until(process: subprocess.Popen[str], marker: str) -> str:
    """What was printed up to the line with the marker."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if marker in line:
            return "".join(lines)
    raise AssertionError(f"it ended before {marker!r}:\n{''.join(lines)}")


def listeners(output: str) -> list[int]:
    """The ports of server, chain and price source, as they were told."""
    return [int(port) for port in dict.fromkeys(re.findall(r"http://127\.0\.0\.1:(\d+)", output)) if port != "9"]


def is_closed(port: int) -> bool:
    """Whether nobody listens there, at the latest in a few seconds."""
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return True
        time.sleep(0.05)
    return False


def test_the_show_climbs_the_ladder_and_leaves_nothing() -> None:
    npm_install(ROOT / "scripts" / "devchain")
    status, output = whole("--once", "--chain", "need")
    assert status == 0, output
    assert "The price source has received 1 notice." in output
    assert re.search(r"^ +simulated +dust, about a cent +live", output, re.MULTILINE), output
    row = re.search(r"^share +demo → treasury  USDC +(.*)$", output, re.MULTILINE)
    assert row is not None, output
    simulated, dust, live = re.findall(r"[\d.]+ +\$[\d.]+", row[1])
    assert simulated.split()[0].startswith("62.35")
    assert dust.split() == ["0.001993", "$0.001993"]
    assert live.split()[0].startswith("62.35")
    assert re.search(r"^notify +POST 127\.0\.0\.1:\d+ +would send, assumed +sent +sent", output, re.MULTILINE), output
    assert re.search(r"^ +network fees +\$0\.\d\d +\$0\.\d\d +\$0\.\d\d", output, re.MULTILINE), output
    for label in ("remains approved", "was not sent", "was assumed", "policy"):
        assert re.search(rf"^ +{label} ", output, re.MULTILINE), output
    assert max(len(line) for line in output[output.index("simulated  ") :].splitlines()) <= 100
    assert "the treasury had 0 USDC, and 0 after the dry run,\n0.001993 after the dust" in output
    data = re.search(r"^  data +(\S+)", output, re.MULTILINE)
    assert data is not None
    assert not Path(data[1]).exists()
    ports = listeners(output)
    assert len(ports) == 3
    assert all(is_closed(port) for port in ports)


@pytest.mark.long
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_middle_ends_all_of_it(sent: signal.Signals) -> None:
    npm_install(ROOT / "scripts" / "devchain")
    with started("--once", "--chain", "need") as process:
        output = until(process, "up the ladder")
        process.send_signal(sent)
        rest, _ = process.communicate(timeout=120)
    assert process.returncode == 130, rest
    ports = listeners(output)
    assert len(ports) == 3
    assert all(is_closed(port) for port in ports)


@pytest.mark.long
def test_chain_and_wallet_survive_a_restart_and_a_lost_chain_gets_a_new_wallet(tmp_path: Path) -> None:
    npm_install(ROOT / "scripts" / "devchain")
    data = tmp_path / "data"
    first = _serve_once(data, with_commands=True)
    assert _is_in_order(data)
    again = _serve_once(data)
    assert [wallet["name"] for wallet in again.wallets] == ["demo"]
    assert again.wallets == first.wallets
    assert again.genesis == first.genesis
    assert (len(first.runs), len(again.runs)) == (5, 12)  # two are of the commands that it tells
    assert re.search(r"had 62\.35\d+ USDC, and 62\.35\d+ after the dry run", again.output), again.output
    (data / "devchain" / "state.json").write_text("{broken")
    anew = _serve_once(data)
    assert "a new chain begins" in anew.output
    assert {wallet["name"] for wallet in anew.wallets} == {"demo", "demo 2"}
    assert anew.genesis != first.genesis
    assert "the treasury had 0 USDC, and 0 after the dry run" in anew.output


class _Seen:
    """What one start of the serving show left behind."""

    def __init__(self, output: str, genesis: str, wallets: list[Any], runs: list[Any]) -> None:
        self.output, self.genesis, self.wallets, self.runs = output, genesis, wallets, runs


def _serve_once(data: Path, with_commands: bool = False) -> _Seen:
    """Starts, waits until it serves, looks, tries the commands that it tells, ends it as a service manager would."""
    with started("--data-dir", str(data), "--chain", "need", HOME=str(data.parent)) as process:
        output = until(process, "Guides:")
        url = re.search(r"Dustrun is up on (\S+)", output)
        assert url is not None
        server = Served(url[1], data)
        wallets = server.json("wallet", "list")["items"]
        runs = server.json("runs", "list")["items"]
        assert {run["status"] for run in runs} == {"success"}, output
        if with_commands:
            _try_commands(server, output)
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=120)
    assert process.returncode == 0, rest
    assert all(is_closed(port) for port in listeners(output))
    network = json.loads((data / "devchain" / "networks" / "local.json").read_text())
    return _Seen(output, network["genesisHash"], wallets, runs)


def _is_in_order(data: Path) -> bool:
    """Whether the folder is closed to others, and `dustrun serve` would find the key of the wallet in it."""
    environment = _environment(HOME=str(data.parent), DUSTRUN_DATA_DIR=str(data))
    words = [sys.executable, "-m", "dustrun", "doctor", "--offline", "--json"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    found = {check["name"]: check["state"] for check in json.loads(done.stdout)}
    return (found["secrets"], found["data folder"]) == ("ok", "ok")


def _try_commands(server: Served, output: str) -> None:
    commands = re.findall(r"^  (dustrun .*)$", output, re.MULTILINE)
    assert len(commands) == 5, output
    for command in commands:
        done = server.dustrun(*shlex.split(command, comments=True)[1:])
        assert done.returncode == 0, f"{command}: {done.stderr}"


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """The project as it is cloned: nothing of npm is there."""
    root = tmp_path / "fresh"
    listed = subprocess.run(
        [
            "git",
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
            "scripts",
            "examples",
            "pyproject.toml",
            "constraints.txt",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, root / name)
    return root


@pytest.mark.long
def test_without_a_registry_it_says_so_and_works_all_the_same(fresh: Path, tmp_path: Path) -> None:
    node = npm_install(ROOT / "scripts" / "devchain")
    unreachable = {
        "PATH": node["PATH"],
        "npm_config_registry": _NOWHERE,
        "npm_config_cache": str(tmp_path / "cache"),
        "npm_config_fetch_retries": "0",
    }
    status, output = whole("--once", root=fresh, **unreachable)
    assert status == 0, output
    assert "The local chain is left out: npm could not get anvil and Uniswap's contracts.\n  To have it, let" in output
    assert "ECONNREFUSED" in (fresh / ".tools" / "devchain.log").read_text()
    assert "What was said is in .tools/devchain.log." in output
    assert "The price source has received 1 notice." in output
    assert "up the ladder" not in output
    status, output = whole("--once", "--chain", "need", root=fresh, **unreachable)
    assert status == 1, output
    assert "The price source has received" not in output
    assert all(is_closed(port) for port in listeners(output))


@pytest.mark.parametrize("sent", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)])
def test_a_signal_ends_an_installation_that_hangs(fresh: Path, tmp_path: Path, sent: signal.Signals) -> None:
    node = npm_install(ROOT / "scripts" / "devchain")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        registry = f"http://127.0.0.1:{silent.getsockname()[1]}"
        unanswered = {
            "PATH": node["PATH"],
            "npm_config_registry": registry,
            "npm_config_cache": str(tmp_path / "cache"),
        }
        with started("--once", root=fresh, **unanswered) as process:
            connection, _ = silent.accept()
            with connection:
                process.send_signal(sent)
                output, _ = process.communicate(timeout=120)
                connection.settimeout(10)
                while connection.recv(65536):
                    pass  # its request; then nobody is there any more
    assert process.returncode == 130
    assert output.endswith("Stopped.\n")


@pytest.mark.long
def test_without_node_and_pypi_it_says_so_and_works_all_the_same(fresh: Path, tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for folder in os.environ["PATH"].split(os.pathsep):
        for found in Path(folder).glob("*") if Path(folder).is_dir() else ():
            if found.name not in ("node", "npm", "npx", "corepack") and not (tools / found.name).exists():
                (tools / found.name).symlink_to(found)
    nothing = {"PATH": str(tools), "PIP_INDEX_URL": f"{_NOWHERE}/simple", "PIP_RETRIES": "0", "PIP_NO_CACHE_DIR": "1"}
    status, output = whole("--once", root=fresh, **nothing)
    assert status == 0, output
    assert "left out: there is no Node 20 or newer here, and none could be had from PyPI.\n  To have it, inst" in output
    assert "The price source has received 1 notice." in output


@pytest.mark.long
def test_the_chain_can_be_left_out() -> None:
    status, output = whole("--once", "--chain", "no")
    assert status == 0, output
    assert "local chain" not in output
    assert "The price source has received 1 notice." in output


@pytest.mark.parametrize("chain", ["no", pytest.param("need", marks=pytest.mark.long)])
def test_what_a_killed_show_leaves_running_is_named_and_not_overwritten(tmp_path: Path, chain: str) -> None:
    """The settings say where the first one listens, and where its data is."""
    if chain == "need":
        npm_install(ROOT / "scripts" / "devchain")
    data, port = tmp_path / "data", free_port()
    given = {"DUSTRUN_PORT": str(port), "DUSTRUN_DATA_DIR": str(data)}
    with started("--chain", chain, root=ROOT, HOME=str(tmp_path), **given) as process:
        until(process, "price source  ")
        left = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
        process.kill()
    server = json.loads((data / "server.json").read_text())
    assert server["address"] == f"http://127.0.0.1:{port}"
    assert (data / "owner.key").exists()
    try:
        assert whole("--data-dir", str(data), HOME=str(tmp_path)) == (0, _UP_ALREADY.format(data=data, **server))
        left.remove(server["pid"])
        os.kill(server["pid"], signal.SIGTERM)
        assert is_closed(int(server["address"].rpartition(":")[2]))
        if chain == "need":
            _names_the_node_of_another_start(data, left)
    finally:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):  # the price source may have ended by itself
                os.kill(pid, signal.SIGTERM)


def _names_the_node_of_another_start(data: Path, left: list[int]) -> None:
    node = (data / "devchain" / "state.lock").read_text()
    status, output = whole("--data-dir", str(data), "--chain", "need", HOME=str(data.parent))
    assert status == 1
    assert int(node) in left
    assert f"process {node}, of another start, has {data / 'devchain'}; end it first" in output
