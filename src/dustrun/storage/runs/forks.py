"""The simulated chains of runs: where each stands, so that a simulation that waited, or whose server ended, goes on."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import simulation_forks


@dataclass(frozen=True, slots=True)
class Fork:
    """A simulated chain after `steps` changes; `state` is JSON. `top_pk` is the run at the root of all calls: the runs
    that it calls share its chains. `chain_id` 0 is no chain: it holds what the wallets have spent on all of them."""

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
    """Stores where a chain stands, unless it is known to be further: parallel nodes may report out of order."""
    tx.run(_KEEP, top_pk=fork.top_pk, chain_id=fork.chain_id, steps=fork.steps, state=fork.state)


def list_of(tx: Tx, top_pk: int) -> list[Fork]:
    """The simulated chains that a run and those that it calls share."""
    return [Fork(*row) for row in tx.all(_LIST, the_top_pk=top_pk)]


def list_chains(tx: Tx, top_pk: int) -> list[Fork]:
    """The same without the row that is no chain."""
    return [fork for fork in list_of(tx, top_pk) if fork.chain_id]
