"""Closing an approval: only the first that comes does, whatever it has read before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun.storage.data import variables
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.tables import runs
from dustrun.storage.money import signatures, transactions, wallets
from dustrun.storage.runs import approvals
from dustrun.storage.runs.approvals import APPROVED, REJECTED, TIMED_OUT, ApprovalRow
from testkit.approving import ASKING, question_of
from testkit.composition import composed


async def test_only_the_first_closes_an_approval(tmp_path: Path, store_url: str) -> None:
    """Each has seen that it is open. It is the statement that decides, not what was read."""
    async with composed(tmp_path, database_url=store_url) as server:
        await server.owner.post("/v1/runs", {"runId": "run_1", "definition": ASKING})
        asked = await question_of(server.owner, "run_1")
        ((org_id,),) = await server.rows(sa.select(runs.c.org_id))
        wanted = [(REJECTED, 1, "key_a", "no"), (APPROVED, 2, "key_b", "yes"), (TIMED_OUT, 3, None, None)]

        def close_all(tx: Tx) -> tuple[list[bool], ApprovalRow | None]:
            done = [approvals.close(tx, asked, *one) for one in wanted]
            return done, approvals.find(tx, org_id, asked)

        done, row = await server.parts.writer.write(close_all)
        assert row is not None
        assert done == [True, False, False]
        assert (row.status, row.decided_at, row.decided_by, row.comment) == wanted[0]


async def test_the_questions_of_one_run_are_listed(tmp_path: Path, store_url: str) -> None:
    async with composed(tmp_path, database_url=store_url) as server:
        asked = {}
        for run_id in ("run_1", "run_2"):
            await server.owner.post("/v1/runs", {"runId": run_id, "definition": ASKING})
            asked[run_id] = await question_of(server.owner, run_id)
        for run_id, question in asked.items():
            found = (await server.owner.get(f"/v1/approvals?runId={run_id}")).data["items"]
            assert [one["id"] for one in found] == [question]
        assert (await server.owner.get("/v1/approvals?runId=run_2&status=rejected")).data["items"] == []
        assert (await server.owner.get("/v1/approvals?runId=run_3")).data["items"] == []


@pytest.mark.parametrize(
    ("path", "page"),
    [
        ("approvals?status=pending,timed_out", approvals._page),
        ("transactions?status=planned,sent&chainId=1", transactions._page),
        ("signatures?runId=run_1", signatures._page),
    ],
    ids=["approvals", "transactions", "signatures"],
)
async def test_a_list_that_is_asked_for_again_is_not_compiled_again(tmp_path: Path, path: str, page: Any) -> None:
    async with composed(tmp_path) as server:
        await server.owner.get(f"/v1/{path}")
        before = page.cache_info()
        assert (await server.owner.get(f"/v1/{path}&limit=3&offset=1")).data["items"] == []
        assert (page.cache_info().misses, page.cache_info().hits) == (before.misses, before.hits + 1)


async def test_lists_take_every_filter(tmp_path: Path, store_url: str) -> None:
    every: dict[str, Any] = {"states": ["sent"], "chain_id": 1, "hash": "0x1", "run_id": "r", "workflow_id": "w"}
    async with composed(tmp_path, database_url=store_url) as server:
        for some in (["a", "b"], []):
            reached: dict[str, Any] = {"only_workflows": some, "only_wallets": some}

            def read(tx: Tx, reached: dict[str, Any] = reached) -> list[Any]:
                filters = transactions.TransactionFilters(**every, wallet_id="o", **reached)
                return [
                    *transactions.list_page(tx, "org", filters, 3, 0),
                    *signatures.list_page(tx, "org", "run", 3, 0, **reached),
                    *approvals.list_page(tx, "org", ["pending"], 3, 0, run_id="r", only=reached["only_workflows"]),
                    *wallets.list_page(tx, "org", with_archived=True, limit=3, offset=0),
                    *variables.list_history(tx, "w", "v", 3, 0),
                    *variables.list_of_run(tx, 1, 3, 0),
                ]

            assert await server.parts.database.read(read) == []
