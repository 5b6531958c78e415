"""Gaps: ranges that a subscription did not scan, which can be scanned after all."""

from __future__ import annotations

from collections.abc import Callable

from dustrun import clock, ids
from dustrun.core.values.exact_json import dumps_text
from dustrun.errors import Code, Conflict, NotFound
from dustrun.sdk.trigger import Lost
from dustrun.services.access import audit, idempotency
from dustrun.services.access.paging import Page, Paging, page_of
from dustrun.services.access.principal import Principal
from dustrun.services.workflows.versions import get_workflow
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer
from dustrun.storage.triggers import gaps as rows
from dustrun.storage.triggers import subscriptions
from dustrun.storage.triggers.gaps import LOST, OPEN, REPLAYING, GapRow
from dustrun.storage.triggers.subscriptions import SubscriptionRow


def gap_of(row: SubscriptionRow, lost: Lost) -> Callable[[Tx], None]:
    """What records, in the transaction that goes on behind it, a range that a subscription can never see."""

    def insert(tx: Tx) -> None:
        gap = GapRow(
            id=ids.new_id("gap"),
            org_id=row.org_id,
            workflow_id=row.workflow_id,
            subscription_pk=row.pk,
            range=dumps_text(lost.range),
            reason=lost.reason,
            state=LOST,
            created_at=clock.now_ms(),
        )
        rows.insert(tx, gap)

    return insert


class TriggerGaps:
    """Use cases of gaps. `on_asked` is told the workflow whose source is to scan one."""

    def __init__(self, database: Database, writer: Writer, on_asked: Callable[[str], None]) -> None:
        self._database = database
        self._writer = writer
        self._on_asked = on_asked

    async def list_page(self, principal: Principal, workflow_id: str, paging: Paging) -> Page[GapRow]:
        """Lists a workflow's gaps, newest first; raises `NotFound`."""

        def query(tx: Tx) -> list[GapRow]:
            get_workflow(tx, principal, workflow_id)
            return rows.list_page(tx, workflow_id, limit=paging.peek, offset=paging.offset)

        return page_of(await self._database.read(query), paging)

    async def replay(self, principal: Principal, workflow_id: str, gap_id: str) -> GapRow:
        """Asks for a gap to be scanned after all; its events count like any other. Raises `NotFound`, and `Conflict`
        unless the gap is open and its trigger armed."""

        def unit(tx: Tx) -> GapRow:
            get_workflow(tx, principal, workflow_id)
            row = rows.find(tx, principal.org_id, gap_id)
            if row is None or row.workflow_id != workflow_id:
                raise NotFound(f'The workflow has no gap "{gap_id}".', code=Code.TRIGGER_GAP_UNKNOWN)
            sub = subscriptions.get(tx, row.subscription_pk)
            if sub.state != subscriptions.ARMED:
                raise Conflict(f'The trigger "{sub.node_id}" is {sub.state}; only an armed one can scan a gap.')
            if not rows.set_state(tx, row.pk, was=OPEN, becomes=REPLAYING):
                raise Conflict(f'The gap is "{row.state}"; only an open one can be replayed.')
            # its source takes the subscription up again because of this, after a restart too
            subscriptions.update(tx, sub.pk, updated_at=max(clock.now_ms(), sub.updated_at + 1))
            audit.record(tx, principal, "trigger-gap.replay", row.id, workflowId=workflow_id)
            found = rows.find(tx, principal.org_id, gap_id)
            assert found is not None
            return found

        return await idempotency.write(self._writer, unit, lambda row: self._on_asked(row.workflow_id))
