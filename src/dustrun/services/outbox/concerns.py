"""What a person has to look at before a transaction is signed, whatever the policy allows: a proxy whose implementation
has changed since it was first called or last accepted."""

from __future__ import annotations

from dataclasses import replace

from dustrun.core.money.policy import Reason
from dustrun.core.values.addresses import checksum
from dustrun.services.outbox.deps import OutboxDeps
from dustrun.services.outbox.preflight import Ready
from dustrun.services.wallets.contracts import names_of
from dustrun.storage.db.statement import Tx
from dustrun.storage.money import contracts as rows

PROXY = "proxyChanged"


async def look(deps: OutboxDeps, ready: Ready) -> Ready:
    """The same with names of known contracts, and what was noticed. Raises `Temporary` if no endpoint answers."""
    row, to = ready.row, ready.intent.to
    chain = deps.chains.get(row.chain_id)
    addresses = {checksum(one.counterparty) for one in ready.intent.movements}
    addresses |= {checksum(to)} if to is not None else set()

    def query(tx: Tx) -> tuple[dict[str, str], str | None]:
        names = names_of(tx, row.org_id, chain.network, addresses)
        known = rows.find(tx, row.org_id, row.chain_id, checksum(to)) if to is not None else None
        return names, known.implementation if known is not None else None

    names, accepted = await deps.database.look_up(query)
    if to is None or not ready.intent.data:
        return replace(ready, names=names)
    now = await chain.find_implementation(to)
    reasons = () if accepted is None or now == accepted else (_changed(to, names.get(checksum(to)), accepted, now),)
    return replace(ready, names=names, implementation=now or accepted, concerns=(*ready.concerns, *reasons))


def _changed(to: str, name: str | None, accepted: str, now: str | None) -> Reason:
    shown = f'{to} ("{name}")' if name else to
    what = f"its calls are now carried out by {now}" if now else "it names no implementation any more"
    message = f"{shown} is a proxy, and has changed: {what}, and before by {accepted}. A person must approve it."
    return Reason(PROXY, message)
