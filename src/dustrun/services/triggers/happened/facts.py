"""What a trigger may know of what happens in its organisation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dustrun import clock
from dustrun.core.triggers.limits import depth_of, through_of
from dustrun.core.values.exact_json import loads, loads_own
from dustrun.errors import Refused
from dustrun.sdk.trigger import Fact, FailingTrigger
from dustrun.services.access.principal import Principal
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.runs import runs
from dustrun.storage.triggers import facts as rows
from dustrun.storage.triggers.facts import ApprovalFact, TransactionFact


class OwnFacts:
    """The facts of an organisation, as the key `by` may see them, without those of the workflow that asks."""

    def __init__(
        self, database: Database, org_id: str, by: Principal | None = None, workflow_id: str | None = None
    ) -> None:
        self._database = database
        self._org_id = org_id
        self._by = by
        self._workflow_id = workflow_id

    @property
    def workflow_id(self) -> str | None:
        """The workflow whose trigger asks; None in a test."""
        return self._workflow_id

    async def transactions(self, since: int, stuck_ms: int) -> Sequence[Fact]:
        """Transactions that ended, were reorged, or are stuck."""
        by = self._need("transaction:read")

        def query(tx: Tx) -> list[Fact]:
            until = clock.now_ms() - stuck_ms
            ended = [(one, one.state, one.at) for one in rows.list_ended(tx, self._org_id, since)]
            stuck = rows.list_stuck(tx, self._org_id, since - stuck_ms, until)
            told = [(one, "stuck", (one.signed_at or 0) + stuck_ms) for one in stuck]
            reorged: list[tuple[TransactionFact, str, int]] = []
            for text, at in rows.list_reorged(tx, self._org_id, since):
                found = rows.find_transaction(tx, self._org_id, str(loads(text).get("transactionId")))
                if found is not None:
                    reorged.append((found, "reorged", at))
            own = by.wallet_ids
            all_of = [one for one in (*ended, *told, *reorged) if own is None or one[0].wallet_id in own]
            return list(self._facts(tx, ((_transaction(*one), one[0].run_pk, one[0].workflow_id) for one in all_of)))

        return await self._database.read(query)

    async def approvals(self, since: int) -> Sequence[Fact]:
        """Approvals that were asked for or closed."""
        self._need("run:read")

        def query(tx: Tx) -> list[Fact]:
            found = rows.list_approvals(tx, self._org_id, since)
            told = ((fact, one.run_pk, one.workflow_id) for one in found for fact in _steps(one, since))
            return list(self._facts(tx, told))

        return await self._database.read(query)

    async def failing_triggers(self) -> Sequence[FailingTrigger]:
        """Triggers whose looks fail now."""
        by = self._need("run:read")
        names = ("workflowId", "triggerNodeId", "triggerType", "state", "failures", "message")

        def query(tx: Tx) -> list[FailingTrigger]:
            return [
                FailingTrigger(sub_id, data[4], dict(zip(names, data, strict=True)))
                for sub_id, *data in rows.list_failing(tx, self._org_id)
                if by.may_use_workflow(data[0]) and data[0] != self._workflow_id
            ]

        return await self._database.read(query)

    async def failed_events(self, after: int) -> tuple[Sequence[Fact], int]:
        """Events that could start no run; none of the server's own events, which could go round in a circle."""
        by = self._need("run:read")

        def query(tx: Tx) -> tuple[list[Fact], int]:
            if after < 0:
                return [], rows.newest_event(tx, self._org_id)
            found = rows.list_failed_events(tx, self._org_id, after)
            facts = [
                Fact(
                    event_id,
                    "event",
                    at,
                    {
                        "workflowId": workflow_id,
                        "triggerNodeId": node_id,
                        "triggerType": type_,
                        "eventId": event_id,
                        "reason": reason,
                        "message": message,
                    },
                )
                for _, event_id, workflow_id, node_id, type_, reason, message, at in found
                if by.may_use_workflow(workflow_id) and workflow_id != self._workflow_id
            ]
            return facts, found[-1][0] if found else after

        return await self._database.read(query)

    def _need(self, permission: str) -> Principal:
        if self._by is None or not self._by.may(permission):
            raise Refused(f'The key in whose name the trigger looks lacks the permission "{permission}".')
        return self._by

    def _facts(self, tx: Tx, told: Iterable[tuple[Fact, int | None, str | None]]) -> Iterable[Fact]:
        """The facts that the key may know and that are not of the workflow itself, each with what led to it."""
        ways: dict[int, tuple[int, list[str]]] = {}
        for fact, run_pk, workflow_id in told:
            assert self._by is not None
            if not self._by.may_use_workflow(workflow_id) or (workflow_id and workflow_id == self._workflow_id):
                continue
            if run_pk is None:
                yield fact
                continue
            if run_pk not in ways:
                run = runs.get(tx, run_pk)
                ways[run_pk] = way_of(tx, run.trigger_source, run.payload, run.callers, run.workflow_id)
            depth, through = ways[run_pk]
            yield Fact(fact.key, fact.what, fact.at, fact.data, depth, tuple(through))


def way_of(tx: Tx, source: str, payload: str, callers: str | None, workflow_id: str | None) -> tuple[int, list[str]]:
    """How deep a run is, also through the runs that called it, and the workflows that led to it, itself included."""
    own = [workflow_id]
    if callers is not None:
        top = runs.get(tx, loads_own(callers)["topPk"])
        source, payload, own = top.trigger_source, top.payload, [top.workflow_id, workflow_id]
    named = [one for one in own if one is not None]
    return depth_of(source, payload), list(dict.fromkeys([*through_of(source, payload), *named]))


def _transaction(one: TransactionFact, what: str, at: int) -> Fact:
    error = None if one.error is None else loads(one.error)
    data = {
        "status": what,
        "transactionId": one.id,
        "runId": one.run_id,
        "workflowId": one.workflow_id,
        "path": one.path,
        "mode": one.mode,
        "walletId": one.wallet_id,
        "chainId": one.chain_id,
        "from": one.sender,
        "nonce": one.nonce,
        "hash": one.hash,
        "blockNumber": one.block_number,
        "error": None if error is None else {name: error.get(name) for name in ("code", "message")},
        "at": clock.to_rfc3339(at),
    }
    # the same transaction may be final once more, in another block, after a reorg
    place = one.block_hash or "" if what in rows.ENDED else str(at) if what == "reorged" else str(one.signed_at)
    return Fact(f"{one.id}:{what}:{place}", what, at, data)


_CLOSED = {"approved": "decided", "rejected": "decided", "timed_out": "expired", "cancelled": "cancelled"}


def _steps(one: ApprovalFact, since: int) -> Iterable[Fact]:
    data = {
        "approvalId": one.id,
        "runId": one.run_id,
        "workflowId": one.workflow_id,
        "workflowName": one.workflow_name,
        "path": one.path,
        "message": one.message,
        "mode": one.mode,
        "expiresAt": clock.to_rfc3339(one.expires_at),
    }
    if one.created_at >= since:
        asked = {"status": "asked", "decision": None, "decidedBy": None, "comment": None}
        yield Fact(
            f"{one.id}:asked", "asked", one.created_at, {**data, **asked, "at": clock.to_rfc3339(one.created_at)}
        )
    what = _CLOSED.get(one.status)
    if what is not None and one.decided_at is not None and one.decided_at >= since:
        decision = one.status if what == "decided" else None
        closed = {"status": what, "decision": decision, "decidedBy": one.decided_by, "comment": one.comment}
        yield Fact(f"{one.id}:{what}", what, one.decided_at, {**data, **closed, "at": clock.to_rfc3339(one.decided_at)})
