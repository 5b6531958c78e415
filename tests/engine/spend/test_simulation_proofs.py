"""Small parts of `scripts/soak fidelity` and `scripts/soak silence`."""

from __future__ import annotations

import pytest

from bench import soak_silence
from bench.calling_workflows import LOOPED
from bench.workflow_fidelity import run_worker
from testkit.chain.contracts import World
from testkit.store_watch import Difference, Key, Row, Store


@pytest.mark.long
def test_a_simulated_workflow_is_what_its_run_becomes(world: World) -> None:
    tally = run_worker(world, "trace-call", 3, 10, seed=9, worker=0)
    assert tally.failures == []
    assert (tally.workflows, tally.policed["workflows"]) == (3, 1)
    assert tally.failing >= tally.steps // 10
    assert min(tally.transactions, tally.decoded, tally.balances, tally.calling, tally.called) > 0
    assert all(tally.sent[kind] > 0 for kind in LOOPED), tally.sent


def test_a_simulation_is_silent(world: World) -> None:
    with soak_silence.proof(world, "simulate-v1") as proof:
        found = proof.run(2, 8, 7)
    assert found["failures"] == []
    assert found["control"] == {"signer": True, "web": True, "tables": True}
    assert found["simulations"] > 2


def test_a_row_that_is_of_no_simulation_is_a_fault() -> None:
    before = Store({"runs": {}, "events": {}, "wallets": {(1,): {"id": 1, "name": "a"}}, "audit": {}}, {"x": "1"})
    tables: dict[str, dict[Key, Row]] = {
        "runs": {(7,): {"pk": 7, "mode": "simulate"}},
        "events": {(7, 1): {"run_pk": 7}, (8, 1): {"run_pk": 8}},
        "wallets": {(1,): {"id": 1, "name": "b"}},
        "audit": {(1,): {"action": "wallet.rename"}},
    }
    assert Difference(before, Store(tables, {"x": "2"})).faults == [
        "audit: an audit row of wallet.rename",
        "events: a row that is of no simulation: run_pk 8",
        "wallets: ['name'] of a row changed",
        "the file x changed",
    ]
