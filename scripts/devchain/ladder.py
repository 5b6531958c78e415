"""Runs *Take profit* up the ladder, simulate, dust, live, and shows the three reports of effects side by side."""

from __future__ import annotations

import sys
from typing import Any

from devchain.chain import DevChain
from devchain.demo import NAME, Demo, prepare
from devchain.market import Builder
from price_source import PriceSource
from rich.console import Console
from serving import Server

from dustrun import ids
from dustrun.cli.http.client import Client
from dustrun.cli.http.failures import CliError
from dustrun.cli.render import side_by_side
from dustrun.core.values.amounts import format_units

_STEPS: tuple[tuple[str, ...], ...] = (("--simulate",), ("--dust",), ())


def show(server: Server, chain: DevChain, source: PriceSource) -> int:
    """The whole climb; gives the exit status. It ends at the step that fails."""
    client = Client(server.url, server.key)
    before = len(source.notices)
    try:
        demo = prepare(client, chain, f"http://{source.address}/notices")
        _introduce(demo)
        reports, balances = _climb(server, client, chain, demo)
    except CliError as error:
        print(error.as_text(), flush=True)
        return error.exit
    if reports:
        print()
        console = Console(highlight=False, width=None if sys.stdout.isatty() else side_by_side.WIDTH)
        console.print(*side_by_side.draw(reports, demo.names(chain)), sep="\n")
    if len(reports) < len(_STEPS) or reports[-1]["status"] != "success":
        print("\nThe ladder ends here: what fails on one step is not tried on the next.\n", flush=True)
        return 1
    return _prove(balances, len(source.notices) - before)


def _introduce(demo: Demo) -> None:
    name = demo.wallet["name"]
    print(f"Now with money of the local chain: {NAME!r} asks a Uniswap pool what 0.1 WETH is worth. Above")
    print("200 USDC it sells, sends a fifth of what it got to a treasury, and tells about it. The wallet")
    print(f"{name!r} pays; its policy allows that and nothing else. So it goes up the ladder:\n", flush=True)


def _climb(server: Server, client: Client, chain: DevChain, demo: Demo) -> tuple[list[dict[str, Any]], list[int]]:
    """The reports of the steps that were made, and what the treasury had before and after each, by the chain's word."""
    reports: list[dict[str, Any]] = []
    balances = [_treasury(chain, demo)]
    for words in _STEPS:
        run_id = ids.new_id("run")
        print(f"$ {' '.join(['dustrun run', repr(NAME), '--payload', f'@{demo.payload}', *words])}", flush=True)
        options = ("--payload", f"@{demo.payload}", "--run-id", run_id, *words)
        status, events = server.dustrun_lines("run", demo.workflow_id, *options)
        if not events or events[-1].get("type") != "effects":
            break
        reports.append({"status": events[-1]["status"], **client.get(f"/v1/runs/{run_id}/effects")})
        balances.append(_treasury(chain, demo))
        print(f"  {_summary(events)}  {run_id}", flush=True)
        if status != 0:
            break
    return reports, balances


def _summary(events: list[dict[str, Any]]) -> str:
    """How the run ended, and why."""
    ended: dict[str, Any] = next((event for event in reversed(events) if event["type"] == "run_finished"), {})
    error = ended.get("error") or {}
    why = f": {error.get('path') or error.get('nodeId')}: {error.get('message')}" if error else ""
    return f"{ended.get('status')}{why}"


def _treasury(chain: DevChain, demo: Demo) -> int:
    usdc = chain.addresses["usdc"]
    return int(Builder(chain.node).read(usdc, "balanceOf(address) returns (uint256)", demo.treasury))


def _prove(balances: list[int], notices: int) -> int:
    """What the outside world says: a simulation moved nothing, the others did; two notices came."""
    balance_texts = [format_units(balance, 6) for balance in balances]
    print(f"\nWhat the chain says: the treasury had {balance_texts[0]} USDC, and {balance_texts[1]} after the dry run,")
    print(
        f"{balance_texts[2]} after the dust, {balance_texts[3]} in the end. The price source got {notices} notices.\n",
        flush=True,
    )
    start, simulated, dust, live = balances
    return 0 if start == simulated < dust < live and notices == 2 else 1
