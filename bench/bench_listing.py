"""Lists and counts with a million stored runs, over HTTP, on both stores: every filter within 20 ms.

    scripts/bench listing [--quick] [--scale runs] [--only sqlite]

The runs are put into the store by SQL, for nobody wants to wait for a million real ones: 100 workflows, one of which
has only 5 runs, most of them live and successful, some failed, partial, cancelled, simulated or dust; 20 still wait.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from bench import load
from dustrun.storage.db.database import create_engine
from dustrun.storage.db.tables import COUNTED_TOGETHER

AIM_MS = 20.0
_TRIES = 40
_RARE = 5
_OPEN = 20
_EVERY_MS = 1000

_FILL = """
INSERT INTO runs (id, org_id, workflow_id, workflow_name, version, mode, status, trigger_node_id, trigger_source,
    triggered_by, payload, prop_values, root_run_id, started_at, finished_at, last_seq, nodes_executed)
SELECT 'run_fill-' || n, :org, CASE WHEN n % :rare_every = 0 THEN :rare ELSE 'wf_' || (n % 99) END, 'filled', 1,
    CASE WHEN n % 100 = 7 THEN 'dust' WHEN n % 10 = 3 THEN 'simulate' ELSE 'live' END,
    CASE WHEN n > :closed THEN 'waiting' WHEN n % 25 = 0 THEN 'failure' WHEN n % 100 = 1 THEN 'partial'
        WHEN n % 10007 = 2 THEN 'cancelled' ELSE 'success' END,
    'root', 'api', CASE WHEN n % :rare_every = 1 THEN 'key_rare' ELSE 'key_fill' END,
    '{"body":{}}', '{}', 'run_fill-' || n, :first + n * :every,
    CASE WHEN n > :closed THEN NULL ELSE :first + n * :every + 40 END, 8, 3
FROM numbers
"""
_NUMBERS = {
    "sqlite": "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :count) ",
    "postgresql": "WITH numbers AS (SELECT generate_series(1, :count) AS n) ",
}


def _fill(url: str, count: int, workflow_id: str) -> float:
    begun = time.perf_counter()
    engine = create_engine(url, synchronous="NORMAL", name="fill")
    numbers = _NUMBERS[engine.dialect.name]
    insert, _, rest = _FILL.strip().partition("\nSELECT")
    text = f"{insert}\n{numbers}SELECT{rest}"
    with engine.connect() as connection:
        connection.exec_driver_sql("BEGIN")
        org = connection.execute(sa.text("SELECT id FROM organizations")).scalar_one()
        values = {
            "org": org,
            "count": count,
            "closed": count - _OPEN,
            "rare": workflow_id,
            "rare_every": count // _RARE,
            "first": time.time_ns() // 1_000_000 - count * _EVERY_MS,
            "every": _EVERY_MS,
        }
        connection.execute(sa.text(text), values)
        connection.execute(sa.text(_COUNTS))
        connection.exec_driver_sql("COMMIT")
        # what autovacuum does by itself, which the cluster of the tests has switched off
        connection.exec_driver_sql("VACUUM (ANALYZE)" if engine.dialect.name == "postgresql" else "PRAGMA optimize")
    engine.dispose()
    return time.perf_counter() - begun


_COUNTS = f"""
INSERT INTO run_counts (org_id, workflow_id, status, mode, bucket, total)
SELECT org_id, workflow_id, status, mode, pk / {COUNTED_TOGETHER} AS bucket, count(*) FROM runs
WHERE finished_at IS NOT NULL GROUP BY org_id, workflow_id, status, mode, pk / {COUNTED_TOGETHER}
"""


def _paths(count: int, workflow_id: str) -> dict[str, str]:
    def ago(share: float) -> str:
        moment = datetime.fromtimestamp(time.time() - count * share * _EVERY_MS / 1000, UTC)
        return f"{moment:%Y-%m-%dT%H:%M:%S.000Z}"

    return {
        "newest": "/v1/runs",
        "a hundred": "/v1/runs?limit=100",
        "a tenth deep": f"/v1/runs?offset={count // 10}",
        "failed": "/v1/runs?status=failure",
        "failed, a hundredth deep": f"/v1/runs?status=failure&offset={count // 100}",
        "cancelled (one in 10,000)": "/v1/runs?status=cancelled",
        "running (none)": "/v1/runs?status=running",
        "waiting (20)": "/v1/runs?status=waiting",
        "dust": "/v1/runs?mode=dust",
        "dust and cancelled (next to none)": "/v1/runs?mode=dust&status=cancelled",
        "since a hundredth": f"/v1/runs?since={ago(0.01)}",
        "failed since a thousandth": f"/v1/runs?status=failure&since={ago(0.001)}",
        "cancelled since a hundredth": f"/v1/runs?status=cancelled&since={ago(0.01)}",
        "of a workflow": f"/v1/workflows/{workflow_id}/runs",
        "of a workflow, failed": f"/v1/workflows/{workflow_id}/runs?status=failure",
        "of a workflow, cancelled simulations": f"/v1/workflows/{workflow_id}/runs?status=cancelled&mode=simulate",
        "of who started nearly all": "/v1/runs?startedBy=key_fill",
        "of who started nearly all, cancelled": "/v1/runs?startedBy=key_fill&status=cancelled",
        "of who started nearly all, in a workflow with 5": f"/v1/runs?startedBy=key_fill&workflowId={workflow_id}",
        "of who started 5": "/v1/runs?startedBy=key_rare",
        "of who started 5, simulations": "/v1/runs?startedBy=key_rare&mode=simulate",
        "of who started none": "/v1/runs?startedBy=me",
        "counts": "/v1/runs/status-counts",
        "counts of live ones": "/v1/runs/status-counts?mode=live",
        "counts since a hundredth": f"/v1/runs/status-counts?since={ago(0.01)}",
        "counts since a half": f"/v1/runs/status-counts?since={ago(0.5)}",
        "count of a workflow": f"/v1/workflows/{workflow_id}/runs/count",
    }


async def _measure(process: load.Process, count: int, workflow_id: str, failures: list[str]) -> dict[str, Any]:
    connection, found = load.Connection(process), {}
    for name, path in _paths(count, workflow_id).items():
        times = []
        for _ in range(_TRIES):
            begun = time.perf_counter()
            status, answer = await connection.call("GET", path)
            times.append((time.perf_counter() - begun) * 1000)
            assert status == 200, answer
        times.sort()
        p50, p95 = times[len(times) // 2], times[int(len(times) * 0.95)]
        found[name] = {"p50Ms": round(p50, 2), "p95Ms": round(p95, 2)}
        if p95 > AIM_MS:
            failures.append(f"{name}: p95 {p95:.1f} ms")
    connection.close()
    return found


def _store(folder: Path, url: str | None, count: int, failures: list[str]) -> dict[str, Any]:
    environment = {} if url is None else {"DUSTRUN_DATABASE_URL": url}
    process = load.Process(folder / "data", **environment)
    process.start()
    try:
        workflow_id = asyncio.run(_workflow(process))
    finally:
        process.stop()
    took = _fill(url or f"sqlite:///{folder / 'data' / 'dustrun.db'}", count, workflow_id)
    process.start()
    try:
        ready_s, found = process.started_s, asyncio.run(_measure(process, count, workflow_id, failures))
        return {"filledS": round(took, 1), "readyS": round(ready_s, 2), "rssMib": process.rss_mib(), "times": found}
    finally:
        process.stop()


async def _workflow(process: load.Process) -> str:
    connection = load.Connection(process)
    try:
        return await load.create(connection, "rare", load.chain(1, "log"))
    finally:
        connection.close()


@contextmanager
def _postgresql(folder: Path) -> Iterator[str]:
    # slow import: only for this store
    from testkit.postgres import Cluster

    del folder
    cluster = Cluster()
    try:
        yield cluster.empty()
    finally:
        cluster.end()


def run(scale: int | None = None, seed: int = 0, *, quick: bool = False, only: str = "") -> dict[str, Any]:
    """`scale` = stored runs; `only` names one store."""
    del seed
    count, failures = scale or (50_000 if quick else 1_000_000), []  # type: tuple[int, list[str]]
    stores: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="dustrun-listing-") as folder:
        if only in ("", "sqlite"):
            stores["sqlite"] = _store(Path(folder) / "sqlite", None, count, failures)
        if only in ("", "postgresql"):
            with _postgresql(Path(folder)) as url:
                stores["postgresql"] = _store(Path(folder) / "postgresql", url, count, failures)
    return {"runs": count, "aimMs": AIM_MS, "stores": stores, "failures": failures}
