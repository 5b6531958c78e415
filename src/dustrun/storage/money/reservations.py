"""Reservations and spending of a wallet by measure: an asset's base units, US dollars, count, network fees.

Open reservations count against limits; settled ones count for one window after they settle; released ones do not count.
Settled rows carry a running total, so spending in a window is the difference of two totals: two look-ups.
All functions run inside the writer's transaction (or a reader's, if they only read).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.storage.db.ledger_tables import reservations, wallet_recipients
from dustrun.storage.db.statement import Statement, Tx

OPEN, SETTLED, RELEASED = "open", "settled", "released"
_c = reservations.c


@dataclass(frozen=True, slots=True)
class ReservationRow:
    """One measure of one transaction or signature."""

    id: int
    wallet_id: str
    subject_id: str
    measure: str
    units: int
    state: str
    price: str | None
    opened_at: int
    settled_at: int | None


_COLUMNS = [_c.id, _c.wallet_id, _c.subject_id, _c.measure, _c.units, _c.state, _c.price, _c.opened_at, _c.settled_at]
_OF_SUBJECT = Statement(sa.select(*_COLUMNS).where(_c.subject_id == b("subject_id_")).order_by(_c.id))
_ADD = Statement(
    sa.insert(reservations).values(
        {
            "wallet_id": b("wallet_id"),
            "subject_id": b("subject_id"),
            "measure": b("measure"),
            "units": b("units"),
            "state": OPEN,
            "price": b("price"),
            "opened_at": b("opened_at"),
        }
    )
)
_OPEN_UNITS = Statement(
    sa.select(_c.units).where(_c.wallet_id == b("wallet"), _c.measure == b("measure_"), _c.state == OPEN)
)
_SETTLED = sa.select(_c.total, _c.settled_at, _c.position).where(
    _c.wallet_id == b("wallet"), _c.measure == b("measure_"), _c.state == SETTLED
)
_LAST = Statement(_SETTLED.order_by(_c.settled_at.desc(), _c.position.desc()).limit(1))
_LAST_BEFORE = Statement(
    _SETTLED.where(_c.settled_at <= b("until")).order_by(_c.settled_at.desc(), _c.position.desc()).limit(1)
)
_SETTLE = Statement(
    sa.update(reservations)
    .where(_c.id == b("id_"), _c.state == OPEN)
    .values(
        units=b("new_units"),
        state=SETTLED,
        settled_at=b("new_settled_at"),
        position=b("new_position"),
        total=b("new_total"),
    )
)
_RELEASE = Statement(
    sa.update(reservations)
    .where(_c.id == b("id_"), _c.state == OPEN)
    .values(state=RELEASED, settled_at=b("new_settled_at"))
)
_CHANGE = Statement(sa.update(reservations).where(_c.id == b("id_"), _c.state == OPEN).values(units=b("new_units")))
_SEEN = Statement(
    sa.select(wallet_recipients.c.first_seen_at).where(
        wallet_recipients.c.wallet_id == b("wallet"), wallet_recipients.c.address == b("address_")
    )
)
_NOTE = Statement(
    sa.text(
        "INSERT INTO wallet_recipients (wallet_id, address, first_seen_at)"
        " VALUES (:wallet, :address_, :at) ON CONFLICT (wallet_id, address) DO NOTHING"
    )
)


def list_of_subject(tx: Tx, subject_id: str) -> list[ReservationRow]:
    """Lists all measures of one transaction or signature."""
    rows = (ReservationRow(*row) for row in tx.all(_OF_SUBJECT, subject_id_=subject_id))
    return [replace(row, units=int(row.units)) for row in rows]


def spent_in_window(tx: Tx, wallet_id: str, measure: str, window_ms: int, now_ms: int) -> int:
    """Units that count in the window ending now: all open ones, and those settled within the window."""
    open_units = sum(int(row[0]) for row in tx.all(_OPEN_UNITS, wallet=wallet_id, measure_=measure))
    last = tx.one(_LAST, wallet=wallet_id, measure_=measure)
    if last is None:
        return open_units
    before = tx.one(_LAST_BEFORE, wallet=wallet_id, measure_=measure, until=now_ms - window_ms)
    return open_units + int(last[0]) - (int(before[0]) if before is not None else 0)


def open_units(tx: Tx, wallet_id: str, measure: str) -> int:
    """Units reserved and not settled yet."""
    return sum(int(row[0]) for row in tx.all(_OPEN_UNITS, wallet=wallet_id, measure_=measure))


def reserve(
    tx: Tx,
    *,
    wallet_id: str,
    subject_id: str,
    units: Mapping[str, int],
    prices: Mapping[str, str],
    at_ms: int,
) -> None:
    """Opens a reservation: `units` by measure, `prices` the JSON of the price used for each.

    A subject can reserve only once; a second call violates a constraint."""
    tx.many(
        _ADD,
        [
            {
                "wallet_id": wallet_id,
                "subject_id": subject_id,
                "measure": measure,
                "units": str(amount),
                "price": prices.get(measure),
                "opened_at": at_ms,
            }
            for measure, amount in sorted(units.items())
            if amount or measure.startswith("gas")
        ],
    )


def change_open(tx: Tx, subject_id: str, units: Mapping[str, int]) -> None:
    """Changes the units of open measures, because a replacement may pay a higher network fee."""
    for row in list_of_subject(tx, subject_id):
        if row.measure in units:
            tx.do(_CHANGE, id_=row.id, new_units=str(units[row.measure]))


def settle(tx: Tx, rows: Iterable[ReservationRow], units: Mapping[str, int], at_ms: int) -> None:
    """Settles open rows with their reserved units, or with those in `units` for a measure."""
    for row in rows:
        if row.state == OPEN:
            _settle(tx, row, units.get(row.measure, row.units), at_ms)


def _settle(tx: Tx, row: ReservationRow, units: int, at_ms: int) -> None:
    """Settles one row. Its time is never before the last settled one, even if the clock was set back."""
    last = tx.one(_LAST, wallet=row.wallet_id, measure_=row.measure)
    total, settled_at, position = (int(last[0]), int(last[1]), int(last[2])) if last is not None else (0, 0, 0)
    tx.do(
        _SETTLE,
        id_=row.id,
        new_units=str(units),
        new_settled_at=max(at_ms, settled_at),
        new_position=position + 1,
        new_total=str(total + units),
    )


def release(tx: Tx, rows: Iterable[ReservationRow], at_ms: int) -> None:
    """Releases open rows, because nothing was spent."""
    for row in rows:
        if row.state == OPEN:
            tx.do(_RELEASE, id_=row.id, new_settled_at=at_ms)


def first_seen(tx: Tx, wallet_id: str, addresses: Iterable[str]) -> dict[str, int]:
    """When each recipient (lower case) became known to the wallet; unknown ones are omitted."""
    found = {address: tx.one(_SEEN, wallet=wallet_id, address_=address) for address in addresses}
    return {address: int(row[0]) for address, row in found.items() if row is not None}


def note_recipients(tx: Tx, wallet_id: str, addresses: Iterable[str], at_ms: int) -> None:
    """Records recipients as known from now on, unless they already are."""
    tx.many(_NOTE, [{"wallet": wallet_id, "address_": address, "at": at_ms} for address in sorted(set(addresses))])
