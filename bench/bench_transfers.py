"""Two hundred transfers from one wallet, from the run call to the confirmed receipt, at one block a second.

    scripts/bench transfers [--scale TRANSFERS] [--set confirmations=2]

The real server over HTTP, each transfer a run of a workflow with a `send-native` node, a real anvil. Told is how long
after the first call all bytes were on disk and sent, and how long until every run had ended: on SQLite, on PostgreSQL,
and on a PostgreSQL that is 10 ms away.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from testkit.chain.anvil import Anvil
from testkit.distance import at_a_distance
from testkit.outbox_world import Api, Witness, amount, server_of
from testkit.postgres import Cluster

_AWAY_S = 0.01
_AWAY_MOST = 1.5
"""How many times as long transfers may take where each round trip to the store takes 20 ms longer."""
_MOST_S = 4.0
_POLL_S = 0.05
_LEFT_S = 60.0


def run(scale: int | None, seed: int, confirmations: str = "2", quick: bool = False) -> dict[str, Any]:
    """`scale` transfers (default 200)."""
    del seed
    transfers = scale or (20 if quick else 200)
    found: dict[str, Any] = {}
    failures: list[str] = []
    for store in ("SQLite", "PostgreSQL", "PostgreSQL, 10 ms away"):
        with _url(store) as url, tempfile.TemporaryDirectory(prefix="dustrun-outbox-") as folder:
            given = {"database_url": url} if url is not None else {}
            found[store], wrong = asyncio.run(_run(Path(folder), transfers, int(confirmations), given))
        failures += [f"{store}: {one}" for one in wrong]
    near, away = (found[store]["confirmedS"] for store in ("PostgreSQL", "PostgreSQL, 10 ms away"))
    if away > near * _AWAY_MOST and not quick:
        failures.append(f"at a distance confirmed after {away} s, near by after {near} s")
    return {
        "transfers": transfers,
        "confirmations": int(confirmations),
        "blockS": 1,
        "stores": found,
        "failures": failures,
    }


@contextlib.contextmanager
def _url(store: str) -> Iterator[str | None]:
    if store == "SQLite":
        yield None
        return
    cluster = Cluster(durable=True)
    try:
        if store == "PostgreSQL":
            yield cluster.fresh()
        else:
            with at_a_distance(cluster.fresh(), _AWAY_S) as (url, _):
                yield url
    finally:
        cluster.end()


async def _run(
    folder: Path, transfers: int, confirmations: int, given: dict[str, str]
) -> tuple[dict[str, Any], list[str]]:
    with Anvil("--block-time", "1") as node:
        server = server_of(folder, node.url, confirmations, 1000, **given)
        server.start()
        try:
            await server.wait_ready(60)
            api = Api(server)
            try:
                found = await _measure(api, transfers, server.server_pid)
            finally:
                await api.close()
        finally:
            await server.stop()
        witness = Witness(node)
        balances = witness.balances(transfers)
        wrong = [number for number, paid in balances.items() if paid != amount(number)]
        failures = [f"recipients with another sum than theirs: {wrong[:20]}"] if wrong else []
        if witness.nonce() != transfers:
            failures.append(f"the nonce is {witness.nonce()}")
        if not given and found["confirmedS"] > _MOST_S:
            failures.append(f"confirmed after {found['confirmedS']} s, which is more than {_MOST_S:g}")
    return found, failures


def _cpu_s(pid: int) -> float:
    """Processor time that a process has used."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


async def _measure(api: Api, transfers: int, pid: int) -> dict[str, Any]:
    workflow_id = await api.prepare()
    used = _cpu_s(pid)
    begun = time.monotonic()
    await asyncio.gather(*(api.start(workflow_id, number) for number in range(transfers)))
    started = time.monotonic() - begun
    sent: float | None = None
    while time.monotonic() - begun < _LEFT_S:
        _, counts = await api.call("GET", "/v1/runs/status-counts")
        if sent is None and await _are_sent(api, transfers):
            sent = time.monotonic() - begun
        if counts.get("success", 0) == transfers:
            break
        await asyncio.sleep(_POLL_S)
    confirmed = time.monotonic() - begun
    return {
        "answeredS": round(started, 3),
        "sentS": round(sent, 3) if sent is not None else None,
        "confirmedS": round(confirmed, 3),
        "serverCpuS": round(_cpu_s(pid) - used, 2),
    }


async def _are_sent(api: Api, transfers: int) -> bool:
    """Whether the page behind all of them is reached, and none is left unsent."""
    _, page = await api.call("GET", f"/v1/transactions?limit=1&offset={transfers - 1}")
    if not page["items"]:
        return False
    waiting = [await api.call("GET", f"/v1/transactions?limit=1&status={status}") for status in ("planned", "signed")]
    return not any(found["items"] for _, found in waiting)
