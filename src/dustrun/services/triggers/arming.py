"""Arms the triggers of what is published, and disarms them, in the transaction that changes the workflow."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from dustrun import clock, ids
from dustrun.catalog import Catalog
from dustrun.core.triggers.chain.cursor import Cursor, ResumedSubscription
from dustrun.core.triggers.chain.headers import KEPT
from dustrun.core.triggers.polling import PollPlace
from dustrun.core.values import exact_json
from dustrun.core.values.exact_json import loads
from dustrun.core.workflow.definition import Definition, Node
from dustrun.core.workflow.specs import Specs
from dustrun.errors import Code, DustrunError, Forbidden, Invalid, Problem
from dustrun.listeners import Listeners
from dustrun.records import dataclass
from dustrun.sdk.action import Effect
from dustrun.sdk.trigger import Trigger
from dustrun.services.access.principal import Principal
from dustrun.services.triggers.context import Contexts
from dustrun.services.triggers.pausing import KEY_REVOKED
from dustrun.services.triggers.subscriptions import CHAIN, CONNECTOR, principal_text
from dustrun.services.triggers.table_changes import cursor_of_now
from dustrun.services.workflows.checks import named_recipients
from dustrun.services.workflows.checks.limited_keys import need_connectors_within
from dustrun.services.workflows.closure import Lookup
from dustrun.services.workflows.sources import covers
from dustrun.services.workflows.spend_gate import SpendGate
from dustrun.services.workflows.versions import get_workflow
from dustrun.storage.data.table_changes import TYPE as TABLE
from dustrun.storage.db import facts as numbered
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.triggers import facts, form_links, subscriptions
from dustrun.storage.triggers import subscriptions as rows
from dustrun.storage.triggers.subscriptions import ARMED, ENDED, FAILED, PAUSED, SubscriptionRow
from dustrun.storage.workflows import versions, workflows
from dustrun.storage.workflows.workflows import WorkflowRow
from dustrun.triggers.happened.facts_poll import begin

# Workflows that start each other by their ends: such a chain must not lead back to itself.


TYPE = "workflow-finished"


def check(tx: Tx, principal: Principal, row: WorkflowRow, configs: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises `Invalid` if a `workflow-finished` trigger (`configs`: by node) waits for a workflow that is not there, or
    for one that the end of this one leads to."""
    problems: list[Problem] = []
    started = _started_by(tx, row)
    for node_id, config in configs.items():
        for index, workflow_id in enumerate(config["workflowIds"]):
            field = f"nodes.{node_id}.payload.workflowIds[{index}]"
            known = principal.may_use_workflow(workflow_id) and workflows.find(tx, row.org_id, workflow_id)
            if not known:
                problems.append(Problem(field, f'there is no workflow "{workflow_id}"', "unknown_workflow", node_id))
            elif workflow_id in started:
                message = f'the end of this workflow starts "{workflow_id}", so they would start each other for ever'
                problems.append(Problem(field, message, "trigger_circle", node_id))
    if problems:
        raise Invalid("The definition is invalid.", code=Code.DEFINITION_INVALID, details=problems)


def _started_by(tx: Tx, row: WorkflowRow) -> set[str]:
    """The workflow itself, and those that its end starts, directly or through others."""
    waits = [
        (sub.workflow_id, frozenset(loads(sub.config)["workflowIds"]))
        for sub in subscriptions.list_armed_of(tx, row.org_id, TYPE)
    ]
    found, open_ids = {row.id}, [row.id]
    while open_ids:
        ended = open_ids.pop()
        reached = {workflow_id for workflow_id, of in waits if ended in of} - found
        found |= reached
        open_ids += sorted(reached)
    return found


_OF_FACTS = ("transaction", "approval", "connector-failed")
OVER = "over"
"""Why a subscription has ended that has nothing left to fire."""

_NOT_WATCHED = ("mode", "catchUp", "pollMs")  # what changes nothing about what is watched
_HEAD_WITHIN_S = 3.0
Heads = Mapping[int, int]
"""The newest block of chains, by id, as asked when a workflow was published or resumed."""
_NO_HEADS: Heads = {}


@dataclass(frozen=True, slots=True)
class _Node:
    """A trigger node that fires by itself."""

    node_id: str
    type: str
    config: dict[str, Any]
    kind: str
    connector: dict[str, Any] | None = None

    @property
    def stored(self) -> dict[str, Any]:
        """Its config as a subscription has it."""
        return self.config if self.connector is None else {**self.config, CONNECTOR: self.connector}

    @property
    def mode(self) -> str:
        return str(self.config.get("mode", "live"))

    def continues(self, before: dict[str, Any]) -> bool:
        """Whether a trigger of that stored config goes on where it is. One of a chain does whatever it looks for from
        now on: the newest blocks still wait for their confirmations, and nobody else would scan them. So does one of a
        table, whose newest changes may not be looked at yet."""
        if self.type == TABLE:
            return before.get("table") == self.config.get("table")
        if self.kind != "chain":
            return _watched(before) == _watched(self.stored)
        begins = self.config.get("fromBlock")
        return before.get("chainId") == self.config.get("chainId") and begins in (None, before.get("fromBlock"))

    def cursor(self, row: SubscriptionRow | None, heads: Heads) -> str | None:
        """Where a trigger begins anew. One of a chain begins behind the block that was the newest when it was published
        or resumed; after it has watched, not at its `fromBlock` again, and what it leaves out becomes a gap."""
        if self.kind != CHAIN:
            return None
        found: dict[str, Any] = {}
        after = heads.get(self.config.get("chainId", 0))
        if after is not None:
            found["after"] = after
        if row is not None and row.state != ENDED and self.continues(exact_json.loads(row.config)):
            found |= self._resumed(row)
        return exact_json.dumps_text(found) if found else None

    def _resumed(self, row: SubscriptionRow) -> dict[str, Any]:
        stored = exact_json.loads(row.cursor) if row.cursor is not None else None
        at, before = Cursor.of(stored), ResumedSubscription.of(stored)
        has_failed, catches_up = row.state == FAILED, self.config.get("catchUp") is True
        reason = "The trigger was stopped." if has_failed else "The workflow was paused."
        if at is not None:  # what stopped it may have replaced blocks that it had scanned
            return ResumedSubscription(max(0, at.number + 1 - (KEPT if has_failed else 0)), reason, catches_up).public()
        if before is not None:
            return before.public()
        if stored is not None and "after" in stored and self.config.get("fromBlock") is None:  # it had not begun yet
            return ResumedSubscription(int(stored["after"]) + 1, reason, catches_up).public()
        return {}


class Arming:
    """Keeps the subscriptions of a workflow as its status and live version say."""

    def __init__(self, catalog: Catalog, gate: SpendGate, contexts: Contexts) -> None:
        self._catalog = catalog
        self._gate = gate
        self._contexts = contexts
        self.on_changed: Listeners[[str]] = Listeners()
        """Called with a workflow's id after a commit that may have changed its subscriptions."""

    async def check(self, principal: Principal, definition: Definition) -> list[Problem]:
        """The obstacles that would keep the triggers of a valid definition from running."""
        found: list[Problem] = []
        context = self._contexts.plain(principal.org_id, principal.workflow_ids)
        for node_id in definition.trigger_node_ids:
            node = definition.nodes[node_id]
            trigger = self._catalog.triggers.get(node.type)
            if trigger is None or not trigger.is_armed:
                continue
            config = trigger.config.model_validate(node.payload)
            for one in await trigger.check(context, config):
                field = f"nodes.{node_id}.payload.{one.field}".rstrip(".")
                found.append(Problem(field, one.message, "trigger_refused", node_id, one.severity))
            if getattr(config, "recognises_events", True) is False and node.payload.get("mode") != "simulate":
                found += self._doubled(definition, node_id)
        return found

    def _doubled(self, definition: Definition, node_id: str) -> Iterator[Problem]:
        """Warns if what a webhook does twice, when its sender delivers an event again, is to spend."""
        specs = self._catalog.specs()
        spending = [name for name, node in definition.nodes.items() if _may_spend(specs, node)]
        if spending:
            yield Problem(
                f"nodes.{node_id}.payload.dedupe",
                f'A sender that delivers an event again would spend again ("{spending[0]}"). Name what identifies an '
                'event: `dedupe`, or an `auth` of a sender that does, such as "stripe" or "standard-webhooks".',
                "webhook_without_id",
                node_id,
                "warning",
            )

    async def ask_heads(self, definition: Definition) -> Heads:
        """The newest blocks of the chains that a definition's triggers watch, as far as their endpoints say it: blocks
        from then on belong to a trigger that is published now."""
        chains = set()
        for node_id in definition.trigger_node_ids:
            node = definition.nodes[node_id]
            trigger = self._catalog.triggers.get(node.type)
            if trigger is not None and trigger.kind == CHAIN:
                chains.add(int(node.payload["chainId"]))
        found = await asyncio.gather(*map(self._head_of, chains))
        return {chain_id: head for chain_id, head in zip(chains, found, strict=True) if head is not None}

    async def _head_of(self, chain_id: int) -> int | None:
        try:
            async with asyncio.timeout(_HEAD_WITHIN_S):
                return (await self._contexts.plain("").chain(chain_id).block()).number
        except (DustrunError, TimeoutError):
            return None  # the watcher decides by time then

    def settle(
        self, tx: Tx, principal: Principal, before: WorkflowRow, after: WorkflowRow, heads: Heads = _NO_HEADS
    ) -> None:
        """Arms, pauses or ends subscriptions after a change of the workflow's row, in its transaction.

        Raises `Forbidden` if what spends is to run in the caller's name, who may not spend: when it is published, or
        resumed; and if the change lets triggers that spend fire more often."""
        if _may_fire_more(before, after):
            self._need_spending_of_triggers(tx, principal, after)
        if before.status != "active" and after.status == "active":
            self._need_spending_to_go_on(tx, principal, before, after)
            self._need_connectors(tx, principal, after)
        if (before.status, before.live_version) == (after.status, after.live_version):
            return
        wanted = {(node.node_id, node.type): node for node in self._nodes(tx, after)}
        found = {(row.node_id, row.type): row for row in rows.list_of(tx, after.id)}
        is_published = after.live_version is not None and after.live_version != before.live_version
        finished = {node.node_id: node.config for node in wanted.values() if node.type == TYPE}
        if finished and after.status == "active":
            check(tx, principal, after, finished)
        takes_over = is_published or (before.paused_reason == KEY_REVOKED and after.status == "active")
        if takes_over and any(node.mode != "simulate" for node in wanted.values()):
            self.need_spending(tx, principal, after)
        now = clock.now_ms()
        for key, row in found.items():
            if key not in wanted and row.state != ENDED:
                reason = "archived" if after.status == "archived" else "replaced"
                rows.update(tx, row.pk, state=ENDED, state_reason=reason, next_at=None, updated_at=now)
        if after.status == "paused":
            rows.pause_all(tx, after.id, after.paused_reason or PAUSED, now)
            return
        for key, node in wanted.items():
            by = principal if takes_over or key not in found else None
            _arm(tx, after, node, found.get(key), by, heads, is_published=is_published)

    def committed(self, workflow_id: str) -> None:
        """The change is on disk."""
        self.on_changed(workflow_id)

    def _need_connectors(self, tx: Tx, principal: Principal, row: WorkflowRow) -> None:
        """Raises `Invalid` unless the caller, who lets the live version's triggers fire, can access its connectors."""
        live = None if row.live_version is None else versions.find(tx, row.id, row.live_version)
        if live is not None:
            need_connectors_within(principal, live.definition)

    def need_spending(self, tx: Tx, principal: Principal, row: WorkflowRow) -> None:
        """Raises `Forbidden` unless the caller may spend from every wallet that the live version can reach: its
        triggers run in the caller's name."""
        assert row.live_version is not None
        if not self.may_spend(tx, principal, row, row.live_version):
            raise Forbidden(
                "The triggers of this version would spend in the name of this key, which may not spend from all of its "
                'wallets. Publish it with a key that has "wallet:spend" on them, or set `mode` to "simulate" on its '
                "triggers."
            )

    def may_spend(self, tx: Tx, principal: Principal, row: WorkflowRow, version: int) -> bool:
        """Whether the caller may spend from every wallet that the version can reach; true if it can reach none."""
        lookup = Lookup(tx, row.org_id)
        closure = self._gate.closures.resolve(lookup, row, version)
        return closure is None or not closure.can_spend or covers(lookup, principal.spendable, closure)

    async def warn_of_form(self, database: Database, principal: Principal, workflow_id: str) -> list[str]:
        """The spends of a workflow's live version that pay whom the answers of a form name."""

        def query(tx: Tx) -> list[str]:
            row = get_workflow(tx, principal, workflow_id)
            lookup = Lookup(tx, row.org_id)
            closure = self._gate.closures.resolve(lookup, row, row.live_version) if row.live_version else None
            can_spend = closure is not None and closure.can_spend
            shapes = self._gate.shapes.get(lookup, closure) if closure is not None and can_spend else ()
            return named_recipients.warnings_of_form(shapes)

        return await self._gate.slicing(lambda: database.read(query))

    def _need_spending_of_triggers(self, tx: Tx, principal: Principal, row: WorkflowRow) -> None:
        """Raises `Forbidden` if triggers or forms spend, in whoever's name, and the caller may not."""
        fires = any(sub.mode != "simulate" and sub.state != ENDED for sub in rows.list_of(tx, row.id))
        fires = fires or form_links.has_spending(tx, row.id, clock.now_ms())
        if fires and row.live_version is not None and not self.may_spend(tx, principal, row, row.live_version):
            raise Forbidden(
                "With more runs (`maxRuns`, a refill) or a shorter `cooldownMs` the triggers and forms of this "
                'workflow can spend more. That needs "wallet:spend" on the wallets of its live version.'
            )

    def _need_spending_to_go_on(self, tx: Tx, principal: Principal, before: WorkflowRow, after: WorkflowRow) -> None:
        """Raises `Forbidden` if the caller may not spend what a workflow spends that was stopped: whoever paused or
        archived it may have meant to stop just that."""
        assert after.live_version is not None
        goes_on = before.status == "paused" or form_links.has_spending(tx, after.id, clock.now_ms())
        if goes_on and not self.may_spend(tx, principal, after, after.live_version):
            raise Forbidden(
                "This workflow was stopped, and its live version can spend. To let it go on needs a key that has "
                '"wallet:spend" on all of its wallets.'
            )

    def _nodes(self, tx: Tx, row: WorkflowRow) -> Iterator[_Node]:
        if row.live_version is None or row.status not in ("active", "paused"):
            return
        version = versions.find(tx, row.id, row.live_version)
        assert version is not None
        document = exact_json.loads(version.definition)
        for node_id in document.get("triggerNodeIds", ["root"]):
            node = document["nodes"][node_id]
            trigger = self._catalog.triggers.get(node["type"])
            if trigger is not None and trigger.is_armed:
                yield _Node(node_id, node["type"], node.get("payload", {}), trigger.kind, _connector_of(trigger, node))


def _may_spend(specs: Specs, node: Node) -> bool:
    spec = specs.get(node.type)
    return node.type == "call-workflow" or (spec is not None and spec.effect == Effect.SPEND)


def _connector_of(trigger: Trigger, node: Mapping[str, Any]) -> dict[str, Any] | None:
    named = node.get("connector")
    return {"type": named["type"], "id": named["id"]} if named and trigger.connector else None


def _may_fire_more(before: WorkflowRow, after: WorkflowRow) -> bool:
    """Whether a change of the limits lets triggers start runs that they could not start before."""
    if before.remain_runs is not None and (after.remain_runs is None or after.remain_runs > before.remain_runs):
        return True
    return (after.cooldown_ms or 0) < (before.cooldown_ms or 0)


def _watched(config: dict[str, Any]) -> bytes:
    watched = {name: value for name, value in config.items() if name not in _NOT_WATCHED}
    return exact_json.dumps(watched, canonical=True)


def _arm(
    tx: Tx,
    workflow: WorkflowRow,
    node: _Node,
    row: SubscriptionRow | None,
    by: Principal | None,
    heads: Heads,
    *,
    is_published: bool,
) -> None:
    """Arms a node's subscription; `by`: in whose name it runs from now on, if that changes."""
    now, version = clock.now_ms(), workflow.live_version
    assert version is not None
    if row is None:
        assert by is not None
        cursor = _first_cursor(tx, workflow.org_id, node) or node.cursor(None, heads)
        rows.insert(tx, replace(_new(workflow, version, node, by, now), cursor=cursor))
        return
    is_same = node.continues(exact_json.loads(row.config))
    changes: dict[str, Any] = {"version": version, "config": exact_json.dumps_text(node.stored), "updated_at": now}
    if is_published:
        changes["mode"] = node.mode
    if by is not None:
        changes["principal"] = principal_text(by)
    if row.state == ENDED and row.state_reason == OVER and is_same:
        rows.update(tx, row.pk, **changes)
        return
    catches_up = row.state not in (ENDED, FAILED) and node.config.get("catchUp") is True
    goes_on = is_same and (row.state == ARMED or catches_up)
    if not goes_on:
        cursor = _first_cursor(tx, workflow.org_id, node) or node.cursor(row, heads)
        changes |= {"cursor": cursor, "next_at": None, "cursor_version": row.cursor_version + 1, "armed_at": now}
    changes |= {"failures": 0, "last_error": None, "stalled_since": None}
    rows.update(tx, row.pk, state=ARMED, state_reason=None, **changes)


def _first_cursor(tx: Tx, org_id: str, node: _Node) -> str | None:
    if node.type in _OF_FACTS:
        return exact_json.dumps_text(PollPlace(begin(numbered.newest(tx), clock.now_ms())).stored())
    if node.type == "trigger-failed":
        return exact_json.dumps_text(PollPlace({"after": facts.newest_event(tx, org_id), "failing": []}).stored())
    return cursor_of_now(tx, org_id, node.config["table"]) if node.type == TABLE else None


def _new(workflow: WorkflowRow, version: int, node: _Node, by: Principal, now: int) -> SubscriptionRow:
    return SubscriptionRow(
        id=ids.new_id("sub"),
        org_id=workflow.org_id,
        workflow_id=workflow.id,
        version=version,
        node_id=node.node_id,
        type=node.type,
        config=exact_json.dumps_text(node.stored),
        state=ARMED,
        mode=node.mode,
        principal=principal_text(by),
        armed_at=now,
        created_at=now,
        updated_at=now,
    )
