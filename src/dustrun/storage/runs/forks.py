"""Rows of simulated chains: their state, so that a simulation can continue after a wait or a restart."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.records import dataclass
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import simulation_forks


@dataclass(frozen=True, slots=True)
class Fork:
    """A simulated chain after `steps` changes; `state` is JSON.

    `top_pk` is the root run; the runs that it calls share its chains. `chain_id` 0 is not a chain: it holds the
    wallets' simulated spending on all chains."""

    top_pk: int
    chain_id: int
    steps: int
    state: str


_KEEP = Statement(
    sa.text(
        "INSERT INTO simulation_forks (top_pk, chain_id, steps, state) VALUES (:top_pk, :chain_id, :steps, :state)"
        " ON CONFLICT (top_pk, chain_id) DO UPDATE SET steps = excluded.steps, state = excluded.state"
        " WHERE excluded.steps > simulation_forks.steps"
    )
)
_LIST = Statement(
    sa.select(
        simulation_forks.c.top_pk, simulation_forks.c.chain_id, simulation_forks.c.steps, simulation_forks.c.state
    )
    .where(simulation_forks.c.top_pk == b("the_top_pk"))
    .order_by(simulation_forks.c.chain_id)
)


def keep(tx: Tx, fork: Fork) -> None:
    """Stores a chain's state, unless a later one is stored: parallel nodes may report out of order."""
    tx.do(_KEEP, top_pk=fork.top_pk, chain_id=fork.chain_id, steps=fork.steps, state=fork.state)


def list_of(tx: Tx, top_pk: int) -> list[Fork]:
    """Lists the simulated chains that a run and its called runs share."""
    return [Fork(*row) for row in tx.all(_LIST, the_top_pk=top_pk)]


def list_chains(tx: Tx, top_pk: int) -> list[Fork]:
    """Lists the same without the row for spending (chain id 0)."""
    return [fork for fork in list_of(tx, top_pk) if fork.chain_id]
