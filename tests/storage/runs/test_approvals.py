"""Closing an approval: only the first that comes does, whatever it has read before."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from dustrun.storage.db.statement import Tx
from dustrun.storage.db.tables import runs
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


async def test_a_list_that_is_asked_for_again_is_not_compiled_again(tmp_path: Path) -> None:
    async with composed(tmp_path) as server:
        path, page = "/v1/approvals?status=pending,timed_out", approvals._page
        await server.owner.get(path)
        before = page.cache_info()
        assert (await server.owner.get(f"{path}&limit=3&offset=1")).data["items"] == []
        assert (page.cache_info().misses, page.cache_info().hits) == (before.misses, before.hits + 1)
