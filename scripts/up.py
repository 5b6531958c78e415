"""Starts a server and shows it at work: an example workflow, simulated, then live. See `scripts/up --help`."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from price_source import PriceSource

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = Path("examples/price-check.json")
FIRST_PORT = 8080
READY_WITHIN_S = 60.0
STOP_WITHIN_S = 15.0


def main() -> int:
    """The whole show; returns the exit status."""
    asked = _parse()
    os.chdir(ROOT)
    signal.signal(signal.SIGTERM, _interrupt)
    with contextlib.ExitStack() as stack:
        if asked.once:
            data = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dustrun-up-")))
            port = _free_port()
        else:
            data, port = Path(asked.data_dir), _first_free_port(asked.port)
        source = PriceSource()
        source.start()
        try:
            with _server(data, port, source) as server:
                return _show(server, _environment(data, port), source, asked.once, data, port)
        except KeyboardInterrupt:
            print("\nStopped.")
            return 0 if not asked.once else 130


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/up", description="Start Dustrun and watch an example run on it.")
    parser.add_argument("--once", action="store_true", help="end after the example (with a folder and port of its own)")
    parser.add_argument("--port", type=int, default=FIRST_PORT, help=f"first port to try (default {FIRST_PORT})")
    parser.add_argument("--data-dir", default="data", help="where the data lies (default ./data)")
    return parser.parse_args()


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return True
    return False


def _first_free_port(first: int) -> int:
    port = next((port for port in range(first, min(first + 100, 65536)) if _is_free(port)), None)
    if port is None:
        sys.exit(f"No free port from {first} on.")
    if port != first:
        print(f"Port {first} is taken; using {port}.")
    return port


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def _server(data: Path, port: int, source: PriceSource) -> Iterator[subprocess.Popen[bytes]]:
    """The server's process, ready; it is stopped by its id on the way out."""
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    log_path = data / "server.log"
    allowed = [entry for entry in (os.environ.get("DUSTRUN_OUTBOUND_ALLOW"), source.address) if entry]
    environment = {"DUSTRUN_MASTER_KEY_FILE": str(data / "master.key")} | {
        **os.environ,
        "DUSTRUN_OUTBOUND_ALLOW": ",".join(allowed),
    }
    command = [sys.executable, "-m", "dustrun", "serve", "--port", str(port), "--data-dir", str(data)]
    print(f"Starting the server on http://127.0.0.1:{port} …", flush=True)
    with log_path.open("ab") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        _wait_until_ready(server, port, log_path)
        yield server
    finally:
        _stop(server)


def _wait_until_ready(server: subprocess.Popen[bytes], port: int, log_path: Path) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            break
        with contextlib.suppress(OSError):
            _get(f"http://127.0.0.1:{port}/readyz")
            return
        time.sleep(0.05)
    tail = "\n".join(log_path.read_text(errors="replace").splitlines()[-30:])
    sys.exit(f"The server did not come up. The end of its log:\n{tail}")


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=5) as response:
        return json.load(response)


def _environment(data: Path, port: int) -> dict[str, str]:
    """What the command line needs to find this server and its key."""
    return {**os.environ, "DUSTRUN_SERVER": f"http://127.0.0.1:{port}", "DUSTRUN_DATA_DIR": str(data)}


def _show(
    server: subprocess.Popen[bytes],
    environment: Mapping[str, str],
    source: PriceSource,
    once: bool,
    data: Path,
    port: int,
) -> int:
    print(f"  documentation  http://127.0.0.1:{port}/docs")
    print(f"  key            {data / 'owner.key'}  (the owner's; keep it to yourself)")
    print(f"  data           {data}")
    print(f"  log            {data / 'server.log'}")
    print(f"A price source of this demonstration listens on http://{source.address}; only that address is allowed.\n")
    status = _run_example(environment, source)
    if once:
        return status
    _tell_what_next(data, port)
    server.wait()
    print("The server has ended; its log says why.")
    return server.returncode or 1


def _run_example(environment: Mapping[str, str], source: PriceSource) -> int:
    """Simulates, then runs; proves that the dry run sent nothing and the real one exactly one notice."""
    workflow = _workflow(environment)
    payload = json.dumps(
        {
            "priceUrl": f"http://{source.address}/price?symbol=ETH",
            "noticeUrl": f"http://{source.address}/notices",
        }
    )
    for words, title, expected in (
        (["--simulate"], "First a dry run: it reads the real price, and sends nothing.", 0),
        ([], "Now for real.", 1),
    ):
        print(f"{title}\n$ dustrun run {workflow} {' '.join(words)}".rstrip(), flush=True)
        status = _dustrun(environment, "run", workflow, "--payload", payload, *words)
        if status != 0:
            return status
        if len(source.notices) != expected:
            print(f"The price source got {len(source.notices)} notices; {expected} were due.", file=sys.stderr)
            return 1
        print(f"The price source has received {expected} notice{'' if expected == 1 else 's'}.\n", flush=True)
    return 0


def _workflow(environment: Mapping[str, str]) -> str:
    """The id of the example workflow, created at the first start."""
    name = json.loads((ROOT / EXAMPLE).read_text())["name"]
    for item in _dustrun_json(environment, "workflow", "list", name)["items"]:
        if item["name"] == name:
            return str(item["id"])
    return str(_dustrun_json(environment, "workflow", "create", str(EXAMPLE))["id"])


def _dustrun(environment: Mapping[str, str], *words: str) -> int:
    return subprocess.run([sys.executable, "-m", "dustrun", *words], env=environment, check=False).returncode


def _dustrun_json(environment: Mapping[str, str], *words: str) -> Any:
    command = [sys.executable, "-m", "dustrun", *words, "--json"]
    done = subprocess.run(command, env=environment, check=False, stdout=subprocess.PIPE)
    if done.returncode != 0:
        sys.exit(done.returncode)
    return json.loads(done.stdout)


def _tell_what_next(data: Path, port: int) -> None:
    print("The server goes on until Ctrl-C. In another terminal, in this folder:")
    if port != FIRST_PORT:
        print(f"  export DUSTRUN_SERVER=http://127.0.0.1:{port}")
    if str(data) != "data":
        print(f"  export DUSTRUN_DATA_DIR={data}")
    print("  source .venv/bin/activate")
    print("  dustrun runs list")
    print("  dustrun run 'Price check' --simulate --payload '{…}'")
    print("Guides: docs/guides/install-and-run.md, docs/guides/run-call.md", flush=True)


if __name__ == "__main__":
    sys.exit(main())
