"""States that need a person: how many of each kind in the whole store, and which ones in an organisation."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final, Literal, get_args

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.core.money.transaction_state import AWAITS_APPROVAL
from dustrun.core.values.exact_json import loads_own
from dustrun.records import dataclass
from dustrun.storage.db.ledger_tables import transactions
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.store_facts import RESTORED_AT
from dustrun.storage.db.tables import approvals, connectors, hooks, runs, store_facts, workflows
from dustrun.storage.db.trigger_tables import subscriptions

Kind = Literal[
    "payment-displaced",
    "payment-held",
    "trigger-failed",
    "connector-reconnect",
    "connector-refused",
    "connector-unreachable",
    "hook-disabled",
    "trigger-stalled",
]
KINDS: Final[tuple[str, ...]] = get_args(Kind)
"""The order of kinds: the worse comes first."""
DISABLED_BY_HAND: Final = "Disabled by hand."
"""Why a hook is disabled that needs nobody."""
_MOST: Final = 200


@dataclass(frozen=True, slots=True)
class AttentionItem:
    """One thing that needs a person. `id`: the connector's or hook's, the run's of a payment, or None for one that
    belongs to no run; that of a trigger is its workflow's. `why`: as stored."""

    kind: str
    id: str | None
    workflow_id: str | None
    wallet_id: str | None
    name: str
    since: int
    why: str


def _is(column: sa.ColumnElement[str], word: str) -> sa.ColumnElement[bool]:
    """A condition with a literal, because SQLite uses a partial index only if it can see the condition's value."""
    return column == sa.literal_column(f"'{word}'")


def _none(name: str) -> sa.ColumnElement[Any]:
    return sa.literal_column("NULL").label(name)


def _needs() -> dict[str, sa.Select[Any]]:
    """By kind, or `connector` for all of connectors, what is found in the whole store: the columns of `AttentionItem`,
    less the kind, and the organisation."""
    is_restored = sa.exists().where(store_facts.c.name == RESTORED_AT)  # nothing is held in any other store
    # not as columns, so that SQLite looks for the few that are held or stand still, not for all that is open or armed
    status, state_of_trigger = (
        sa.func.coalesce(column, sa.literal_column("''")) for column in (runs.c.status, subscriptions.c.state)
    )
    awaits_nobody = sa.exists().where(
        approvals.c.id == transactions.c.approval_id,
        sa.or_(_is(approvals.c.status, "rejected"), _is(approvals.c.status, "timed_out")),
    )  # its node refuses it as soon as it looks
    is_open = sa.or_(_is(status, "running"), _is(status, "waiting"))
    of_run = sa.join(transactions, runs, transactions.c.run_pk == runs.c.pk, isouter=True)
    of_workflow = sa.join(subscriptions, workflows, subscriptions.c.workflow_id == workflows.c.id)

    def trigger(since: str, why: str, *conditions: sa.ColumnElement[bool]) -> sa.Select[Any]:
        row = subscriptions.c
        columns = row.org_id, row.workflow_id, row.workflow_id, _none("wallet_id"), workflows.c.name
        return sa.select(*columns, row[since], row[why]).select_from(of_workflow).where(*conditions)

    def payment(since: str, why: str, *conditions: sa.ColumnElement[bool]) -> sa.Select[Any]:
        row = transactions.c
        columns = row.org_id, row.run_id, row.workflow_id, row.wallet_id, runs.c.workflow_name
        return sa.select(*columns, row[since], row[why]).select_from(of_run).where(*conditions)

    def own(table: sa.Table, since: str, why: str, *conditions: sa.ColumnElement[bool]) -> sa.Select[Any]:
        row = table.c
        columns = row.org_id, row.id, _none("workflow_id"), _none("wallet_id"), row.name
        return sa.select(*columns, row[since], row[why]).where(*conditions)

    stalled, state = subscriptions.c.stalled_since.is_not(None), transactions.c
    return {
        "payment-displaced": payment("updated_at", "error", _is(state.state, "displaced")),
        "payment-held": payment(
            *("planned_at", "refusal", is_restored, is_open, _is(state.state, "planned"), state.refusal.is_not(None)),
            *(state.refusal != AWAITS_APPROVAL, ~awaits_nobody),
        ),
        "trigger-failed": trigger("updated_at", "state_reason", _is(subscriptions.c.state, "failed")),
        "connector": own(connectors, "failing_since", "failure", connectors.c.failing_since.is_not(None)),
        "hook-disabled": own(
            hooks,
            *("disabled_at", "disabled_reason"),
            *(hooks.c.status == "disabled", hooks.c.disabled_reason != DISABLED_BY_HAND),
        ),
        "trigger-stalled": trigger("stalled_since", "last_error", _is(state_of_trigger, "armed"), stalled),
    }


_FAILING: Final = Statement(sa.select(connectors.c.failure).where(connectors.c.failing_since.is_not(None)))
_COUNTS: Final = Statement(
    sa.union_all(
        *(
            query.with_only_columns(sa.literal(kind), sa.func.count(), maintain_column_froms=True)
            for kind, query in _needs().items()
            if kind != "connector"
        )
    )
)
_LISTS: Final = {
    kind: Statement(
        query.where(query.selected_columns[0] == b("org_id"))
        .order_by(query.selected_columns[5].desc())
        .limit(b("most", type_=sa.Integer))
    )
    for kind, query in _needs().items()
}


def count(tx: Tx) -> dict[str, int]:
    """The number of each kind; 0 for none."""
    found = Counter({str(kind): int(number) for kind, number in tx.all(_COUNTS)})
    found.update(f"connector-{loads_own(how)['what']}" for (how,) in tx.all(_FAILING))
    return {kind: found[kind] for kind in KINDS}


def list_of(tx: Tx, org_id: str) -> list[AttentionItem]:
    """The states of an organisation that need a person: the worse first, of a kind the newest, at most 200 of each."""
    found = [
        _need(kind, *row[1:]) for kind, query in _LISTS.items() for row in tx.all(query, org_id=org_id, most=_MOST)
    ]
    return sorted(found, key=lambda one: KINDS.index(one.kind))


def _need(
    kind: str,
    id_: str | None,
    workflow_id: str | None,
    wallet_id: str | None,
    name: str | None,
    since: int,
    why: str | None,
) -> AttentionItem:
    if why is not None and kind in ("connector", "payment-displaced"):
        told = loads_own(why)
        kind, why = f"connector-{told['what']}" if kind == "connector" else kind, told["message"]
    return AttentionItem(kind, id_, workflow_id, wallet_id, name or "", since, why or "")
