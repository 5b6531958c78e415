"""Facts about its organisation that a trigger may know."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final

from dustrun import clock
from dustrun.core.triggers.limits import depth_of, through_of
from dustrun.core.values.exact_json import loads, loads_own
from dustrun.errors import Refused
from dustrun.sdk.trigger import Fact, FactKind, FailingTrigger
from dustrun.services.access.principal import Principal
from dustrun.services.connectors.connectors import find_seen
from dustrun.storage.db import facts as numbered
from dustrun.storage.db.database import Database
from dustrun.storage.db.facts import ENDED, FactRow
from dustrun.storage.db.statement import Tx
from dustrun.storage.runs import runs
from dustrun.storage.triggers import facts as rows
from dustrun.storage.triggers.facts import ApprovalFact, TransactionFact

AT_ONCE: Final = 50
"""How many facts one look reads."""
_NEEDED: Final[dict[FactKind, str]] = {
    "transaction": "transaction:read",
    "approval": "run:read",
    "connector": "connector:read",
}
_Told = tuple[Fact, int | None, str | None]
"""A fact, the run in which it happened, and that run's workflow."""


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

    async def newest(self) -> int:
        """The number of the newest fact."""
        return await self._database.read(numbered.newest)

    async def happened(self, kind: FactKind, after: int) -> tuple[Sequence[Fact], int, bool]:
        """The next facts after a number, the number up to which they were read, and whether there may be more."""
        by = self._need(_NEEDED[kind])

        def query(tx: Tx) -> tuple[list[Fact], int, bool]:
            found = numbered.list_after(tx, self._org_id, kind, after, AT_ONCE)
            facts = self._numbered(tx, kind, found, by)
            return facts, found[-1].id if found else after, len(found) == AT_ONCE

        return await self._database.read(query)

    async def latest(self, kind: FactKind) -> Sequence[Fact]:
        """Some of the newest facts, newest first."""
        by = self._need(_NEEDED[kind])

        def query(tx: Tx) -> list[Fact]:
            found = numbered.list_latest(tx, self._org_id, kind, AT_ONCE)
            return self._numbered(tx, kind, found, by)

        return await self._database.read(query)

    async def stuck(self, stuck_ms: int) -> Sequence[Fact]:
        """Transactions that are stuck now: sent for so long without being mined."""
        by = self._need(_NEEDED["transaction"])

        def query(tx: Tx) -> list[Fact]:
            found = rows.list_stuck(tx, self._org_id, clock.now_ms() - stuck_ms)
            told = ((one, "stuck", (one.signed_at or 0) + stuck_ms) for one in found if _may_see(by, one))
            return list(self._seen(tx, ((_transaction(*one), one[0].run_pk, one[0].workflow_id) for one in told)))

        return await self._database.read(query)

    async def by_time(self, kind: FactKind, since: int) -> Sequence[Fact]:
        """Facts by their time, also of when they were not numbered yet."""
        by = self._need(_NEEDED[kind])

        def query(tx: Tx) -> list[Fact]:
            if kind == "connector":
                return []  # they have always been numbered
            if kind == "approval":
                asked = rows.list_approvals(tx, self._org_id, since)
                steps = ((fact, one.run_pk, one.workflow_id) for one in asked for fact in _steps(one, since))
                return list(self._seen(tx, steps))
            ended = [(one, one.state, one.at) for one in rows.list_ended(tx, self._org_id, since)]
            for text, at in rows.list_reorged(tx, self._org_id, since):
                found = rows.find_transaction(tx, self._org_id, str(loads(text).get("transactionId")))
                if found is not None:
                    ended.append((found, "reorged", at))
            told = (one for one in ended if _may_see(by, one[0]))
            return list(self._seen(tx, ((_transaction(*one), one[0].run_pk, one[0].workflow_id) for one in told)))

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

    def _numbered(self, tx: Tx, kind: FactKind, found: Sequence[FactRow], by: Principal) -> list[Fact]:
        if kind == "connector":
            told = (self._of_connector(tx, row, by) for row in found)
            return [fact for fact in told if fact is not None]
        return list(self._seen(tx, self._read(tx, kind, found, by)))

    def _read(self, tx: Tx, kind: FactKind, found: Sequence[FactRow], by: Principal) -> Iterable[_Told]:
        """The content of facts about what is still there."""
        for row in found:
            if kind == "transaction":
                one = rows.find_transaction(tx, self._org_id, row.subject_id)
                if one is not None and _may_see(by, one):
                    fact = _transaction(one, row.what, row.at, row.place)
                    yield replace(fact, number=row.id), one.run_pk, one.workflow_id
            else:
                asked = rows.find_approval(tx, self._org_id, row.subject_id)
                what = _CLOSED.get(row.what, row.what)
                steps = () if asked is None else (one for one in _steps(asked, 0) if _is_of(one, what, row.place))
                for fact in steps:
                    assert asked is not None
                    yield replace(fact, number=row.id), asked.run_pk, asked.workflow_id

    def _of_connector(self, tx: Tx, row: FactRow, by: Principal) -> Fact | None:
        """A connector's fact, to keys that may see the connector; not to the workflow in whose run it happened."""
        connector = find_seen(tx, by, row.subject_id)
        run = None if row.run_pk is None else runs.find_by_pk(tx, row.run_pk)
        if connector is None or (run is not None and run.workflow_id == self._workflow_id is not None):
            return None
        shows = run is not None and by.may_use_workflow(run.workflow_id)
        data = {
            **loads(row.data or "{}"),
            "what": row.what,
            "runId": run.id if run is not None and shows else None,
            "workflowId": run.workflow_id if run is not None and shows else None,
            "at": clock.to_rfc3339(row.at),
        }
        fact = Fact(f"{row.subject_id}:{row.what}:{row.place}", row.what, row.at, data, number=row.id)
        if run is not None:
            depth, through = way_of(tx, run.trigger_source, run.payload, run.callers, run.workflow_id)
            fact = replace(fact, depth=depth, through=tuple(through))
        return fact

    def _seen(self, tx: Tx, told: Iterable[_Told]) -> Iterable[Fact]:
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
            yield replace(fact, depth=depth, through=tuple(through))


def _may_see(by: Principal, one: TransactionFact) -> bool:
    return by.wallet_ids is None or one.wallet_id in by.wallet_ids


def way_of(tx: Tx, source: str, payload: str, callers: str | None, workflow_id: str | None) -> tuple[int, list[str]]:
    """How deep a run is, also through the runs that called it, and the workflows that led to it, itself included."""
    own = [workflow_id]
    if callers is not None:
        top = runs.get(tx, loads_own(callers)["topPk"])
        source, payload, own = top.trigger_source, top.payload, [top.workflow_id, workflow_id]
    named = [one for one in own if one is not None]
    return depth_of(source, payload), list(dict.fromkeys([*through_of(source, payload), *named]))


def _transaction(one: TransactionFact, what: str, at: int, place: str | None = None) -> Fact:
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
    if place is None:
        place = one.block_hash or "" if what in ENDED else str(at) if what == "reorged" else str(one.signed_at)
    return Fact(f"{one.id}:{what}:{place}", what, at, data)


def _is_of(step: Fact, what: str, place: str) -> bool:
    """Whether it is the step of a fact: of several votes, the one at its place."""
    return step.what == what and (what != "voted" or step.key.rpartition(":")[2] == place)


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
        "quorum": one.quorum or 1,
    }
    if one.created_at >= since:
        asked: dict[str, Any] = {"status": "asked", "decision": None, "decidedBy": None, "comment": None, "votes": []}
        yield Fact(
            f"{one.id}:asked", "asked", one.created_at, {**data, **asked, "at": clock.to_rfc3339(one.created_at)}
        )
    what, given = _CLOSED.get(one.status), loads(one.votes or "[]")
    shown = ("by", "at", "comment")
    votes = [{**{key: vote[key] for key in shown}, "at": clock.to_rfc3339(vote["at"])} for vote in given]
    for number, vote in enumerate(given[:-1] if one.status == "approved" else given, 1):  # the last one decides
        if vote["at"] >= since:
            voted = {"status": "voted", "decision": None, "decidedBy": vote["by"], "comment": vote["comment"]}
            by_then = {**voted, "votes": votes[:number], "at": votes[number - 1]["at"]}
            yield Fact(f"{one.id}:voted:{number}", "voted", vote["at"], {**data, **by_then})
    if what is not None and one.decided_at is not None and one.decided_at >= since:
        decision = one.status if what == "decided" else None
        by = {"decision": decision, "decidedBy": one.decided_by, "comment": one.comment}
        counted = [vote for vote, stored in zip(votes, given, strict=True) if not stored.get("lapsed")]
        closed = {"status": what, **by, "votes": counted}
        yield Fact(f"{one.id}:{what}", what, one.decided_at, {**data, **closed, "at": clock.to_rfc3339(one.decided_at)})
