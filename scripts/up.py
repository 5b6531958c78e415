"""Starts a server and shows it at work: an example, simulated and live; then one that trades on a local chain,
simulated, with dust, and live. See `scripts/up --help`."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn

import build_web
import price_check
from devchain import chain as devchain
from devchain import demo, ladder
from devchain.node import CHAIN_ID, NodeFault
from devchain.parts import LOG, Missing
from price_source import PRICES, PriceSource
from serving import Server, answers, first_free_port, free_port, serving

from dustrun.cli.http.client import Client
from dustrun.settings import Settings
from dustrun.storage.db import server_file

ROOT = Path(__file__).resolve().parent.parent
FIRST_PORT, FIRST_CHAIN_PORT = 8080, 8545
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> int:
    """The whole show; returns the exit status."""
    asked = _parse()
    os.chdir(ROOT)
    for number in _SIGNALS:
        signal.signal(number, _interrupt)
    try:
        with contextlib.ExitStack() as stack:
            return _run(asked, stack)
    except KeyboardInterrupt:
        print("\nStopped.")
        return 0 if not asked.once else 130
    except BrokenPipeError:  # nobody reads on, as with `| head`; all is ended by now
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/up", description="Start Dustrun and watch examples run on it.")
    parser.add_argument(
        "--once", action="store_true", help="end after the examples (with a folder and ports of its own)"
    )
    parser.add_argument("--port", type=int, help=f"first port to try (default: the setting `port`, {FIRST_PORT})")
    parser.add_argument("--data-dir", help="where the data lies (default: the setting `data_dir`, ./data)")
    parser.add_argument(
        "--chain",
        choices=("try", "need", "no"),
        default="try",
        help="start a local chain: try to, and go on without it (default); fail without it; or do not",
    )
    return parser.parse_args()


def _interrupt(*_: object) -> NoReturn:
    """The first signal ends the show; more of them do not disturb the tidying up, which takes seconds at most."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _run(asked: argparse.Namespace, stack: contextlib.ExitStack) -> int:
    if asked.once:
        data = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dustrun-up-")))
    else:
        data = Path(asked.data_dir or _setting("data_dir", "data"))
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        if _is_up(data):
            return 0
        _prepare_app()
    source = PriceSource()
    source.start()
    chain = None if asked.chain == "no" else _open_chain(data, asked.once, stack)
    if chain is None and asked.chain == "need":
        return 1
    first = _setting("port", FIRST_PORT) if asked.port is None else asked.port
    port = free_port() if asked.once or not first else first_free_port(first)
    settings = _settings(source, chain)
    if asked.once:
        settings["DUSTRUN_MASTER_KEY_FILE"] = str(data / "master.key")  # it goes with the folder
    server = stack.enter_context(serving(data, port, settings))
    _introduce(server, chain, source)
    status = price_check.show(server, source)
    if chain is not None:
        status = ladder.show(server, chain, source) or status
    if asked.once:
        print("That was all. `scripts/up` without --once goes on serving, and keeps its data.", flush=True)
        return status
    _tell_what_next(server, chain)
    server.process.wait()
    print("The server has ended; its log says why.")
    return server.process.returncode or 1


def _setting(name: str, default: Any) -> Any:
    """What a variable or dustrun.toml says; the server will say what is wrong with them."""
    try:
        return getattr(Settings(), name)
    except ValueError:
        return default


def _is_up(data: Path) -> bool:
    """Whether a server of an earlier start runs on the folder; says where."""
    running = server_file.read(data)
    if running is None or not answers(running.address):
        return False
    print(f"Dustrun is up already on {running.address}, with the data in {data}; nothing was started.")
    print(f"  documentation  {running.address}/docs")
    print(f"  to end it      Ctrl-C where it was started, or: kill {running.pid}")
    print("  for another    scripts/up --data-dir FOLDER", flush=True)
    return True


def _open_chain(data: Path, once: bool, stack: contextlib.ExitStack) -> devchain.DevChain | None:
    """The local chain; without it the rest goes on, and it is said what is missing."""
    if _knows_chains():
        _leave_out("networks_dir or an endpoint of 31337 is set", "start without those settings")
        return None
    port = free_port() if once else first_free_port(FIRST_CHAIN_PORT)
    try:
        return stack.enter_context(devchain.opened(data / "devchain", port, Decimal(PRICES["ETH"])))
    except Missing as missing:
        _leave_out(str(missing), f"{missing.mend}; then start again", f"  What was said is in {LOG.relative_to(ROOT)}.")
    except (NodeFault, OSError) as fault:
        _leave_out(f"it did not start: {fault}", f"look at {data / 'devchain'}; then start again")
    return None


def _leave_out(why: str, mend: str, *more: str) -> None:
    print(f"The local chain is left out: {why}.", f"  To have it, {mend}.", *more, sep="\n")
    print("  All else works without it.\n", flush=True)


def _knows_chains() -> bool:
    """Whether a variable or dustrun.toml says what the local chain would have to say: then it is left alone."""
    return _setting("networks_dir", None) is not None or CHAIN_ID in _setting("chain_endpoints", ())


def _settings(source: PriceSource, chain: devchain.DevChain | None) -> dict[str, str]:
    """The server may reach the price source, and knows the chain."""
    allowed = [entry for entry in (os.environ.get("DUSTRUN_OUTBOUND_ALLOW"), source.address) if entry]
    settings = {"DUSTRUN_OUTBOUND_ALLOW": ",".join(allowed)}
    return settings if chain is None else settings | {"DUSTRUN_NETWORKS_DIR": str(chain.networks_dir)}


def _introduce(server: Server, chain: devchain.DevChain | None, source: PriceSource) -> None:
    print(f"Dustrun is up on {server.url}")
    print(f"  documentation  {server.url}/docs")
    print(f"  key            {server.data / 'owner.key'}  (the owner key; keep it secret)")
    print(f"  data           {server.data}  (server.log is in it)")
    if chain is not None:
        print(f"  local chain    {chain.node.url}  (31337, Uniswap V2 and V3; nothing on it is worth anything)")
    print(f"  price source   http://{source.address}  (of this demonstration; the only address that is allowed)\n")


def _tell_what_next(server: Server, chain: devchain.DevChain | None) -> None:
    print(f"The server goes on until Ctrl-C: {server.url}/docs, key in {server.data / 'owner.key'}.")
    print("In another terminal, in this folder:")
    if server.port != FIRST_PORT:
        print(f"  export DUSTRUN_SERVER={server.url}")
    if str(server.data) != "data":
        print(f"  export DUSTRUN_DATA_DIR={server.data}")
    print("  source .venv/bin/activate")
    print("  dustrun runs list")
    print(f"  dustrun run 'Price check' --simulate --payload @{price_check.payload_path(server.data)}")
    if chain is None:
        print("There is no local chain; why is said above.")
    else:
        print(*(f"  {command}" for command in demo.commands(chain)), sep="\n")
    print("Guides: docs/guides/web-app.md, install-and-run.md, run-call.md, wallets.md", flush=True)
    _invite(server)


def _prepare_app() -> None:
    """Builds the web app when its sources have changed; without it the API is served alone."""
    if build_web.is_fresh():
        return
    print("Building the web app; this takes a minute the first time …", flush=True)
    try:
        build_web.build()
    except build_web.NotBuilt as error:
        have = "an earlier state of it" if (build_web.BUILT / "index.html").exists() else "the API alone"
        print(
            f"The web app was not built: {error}",
            f"  To have it, install Node 20 or newer with npm; now {have} is served.\n",
            sep="\n",
        )


def _invite(server: Server) -> None:
    """The last lines: where the app is, and a link that signs in once."""
    if not (build_web.BUILT / "index.html").exists():
        return
    link = Client(server.url, server.key).post("/v1/session/links")
    print(f"\nOpen the web app: {server.url}")
    print("This link signs you in, once, within 10 minutes:")
    print(f"  {link['url']}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
