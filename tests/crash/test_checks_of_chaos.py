"""What `scripts/soak chaos` holds triggers against finds an event that is missing, and one that was taken twice."""

from __future__ import annotations

import random
from collections.abc import Iterator

import psycopg
import pytest
import sqlalchemy as sa

from bench.cluster_callers import AnyApi
from bench.cluster_load import TICK_MS, Armed, open_rows
from testkit.postgres import Cluster

_TABLES = """
CREATE TABLE runs (id text, workflow_id text, finished_at bigint);
CREATE TABLE trigger_events (id text, workflow_id text, key text, outcome text, run_id text,
    occurred_at bigint, received_at bigint, reason text);
INSERT INTO runs VALUES ('run_a', 'wf_chain', 1), ('run_b', 'wf_chain', 2), ('run_open', 'wf_chain', NULL),
    ('run_ea', 'wf_ends', 3), ('run_eb', 'wf_ends', 3), ('run_h', 'wf_hook', 3),
    ('run_t0', 'wf_tick', 3), ('run_t1', 'wf_tick', 3), ('run_t2', 'wf_tick', 3);
INSERT INTO trigger_events VALUES
    ('ea', 'wf_ends', 'run_a', 'started', 'run_ea', 1), ('eb', 'wf_ends', 'run_b', 'started', 'run_eb', 2),
    ('h', 'wf_hook', 'one', 'started', 'run_h', 1),
    ('t0', 'wf_tick', '0', 'started', 'run_t0', 0), ('t1', 'wf_tick', '1', 'started', 'run_t1', TICK),
    ('t2', 'wf_tick', '2', 'started', 'run_t2', 2 * TICK);
UPDATE trigger_events SET received_at = occurred_at;
"""


class Told:
    def __init__(self) -> None:
        self.failures: list[str] = []

    def fail(self, what: str) -> None:
        self.failures.append(what)


@pytest.fixture
def url(cluster: Cluster) -> Iterator[str]:
    url = cluster.empty()
    yield url
    cluster.drop(url)


@pytest.mark.parametrize(
    ("spoils", "told"),
    [
        ("SELECT 1", []),
        ("DELETE FROM trigger_events WHERE id = 'eb'; DELETE FROM runs WHERE id = 'run_eb'", ["1 ends of runs"]),
        ("INSERT INTO runs VALUES ('run_again', 'wf_ends', 3)", ["ends: 2 events have started runs, 3 runs"]),
        ("UPDATE trigger_events SET outcome = 'skipped' WHERE id = 'ea'; DELETE FROM runs WHERE id = 'run_ea'",
         ["ends: events came to {'skipped'}"]),
        ("UPDATE trigger_events SET id = 'other' WHERE id = 'h'", ["1 deliveries were accepted and are not stored"]),
        ("DELETE FROM trigger_events WHERE id = 't1'; DELETE FROM runs WHERE id = 'run_t1'", ["the schedule fired"]),
        ("UPDATE trigger_events SET occurred_at = 0 WHERE id = 't1'", ["the schedule fired"]),
        ("UPDATE trigger_events SET received_at = occurred_at + 61000 WHERE id = 't1'", ["the schedule fired 61.0 s"]),
    ],
)  # fmt: skip
def test_what_is_missing_or_taken_twice_is_told(url: str, spoils: str, told: list[str]) -> None:
    parsed = sa.make_url(url)
    with psycopg.connect(host=str(parsed.query["host"]), user="postgres", dbname=parsed.database) as connection:
        connection.execute(_TABLES.replace("TICK", str(TICK_MS)).encode())
        connection.execute(spoils.encode())
    workflows = {"chain": "wf_chain", "calls": "wf_calls", "cancelled": "wf_cancelled", "waits": "wf_waits"}
    ids = {"webhook": "wf_hook", "schedule": "wf_tick", "ends": "wf_ends"}
    armed = Armed(AnyApi([], "", random.Random(1)), workflows, ids, {"one": "h"})
    found = Told()
    armed.check(url, found)
    assert [text for text, prefix in zip(found.failures, told, strict=True) if not text.startswith(prefix)] == []


def test_rows_of_what_is_open_can_be_read_from_any_schema(cluster: Cluster) -> None:
    url = cluster.fresh()
    try:
        assert open_rows(url) == []
    finally:
        cluster.drop(url)
