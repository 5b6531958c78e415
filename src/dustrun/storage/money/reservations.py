"""Reservations and spending of a wallet by measure: an asset's base units, US dollars, count, network fees.

Open reservations count against limits; settled ones count for one window after they settle; released ones do not count.
Settled rows carry a running total, so spending in a window is the difference of two totals: two look-ups.
All functions run inside the writer's transaction (or a reader's, if they only read).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.records import dataclass
from dustrun.storage.db.ledger_tables import approved_values, reservations, wallet_recipients
from dustrun.storage.db.statement import PendingResult, Row, Statement, Tx

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
    sa.select(_c.units, _c.subject_id).where(_c.wallet_id == b("wallet"), _c.measure == b("measure_"), _c.state == OPEN)
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
_DROP = Statement(sa.delete(reservations).where(_c.subject_id == b("subject_id_"), _c.state == OPEN))
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

_APPROVED = Statement(
    sa.select(approved_values.c.value).where(
        approved_values.c.wallet_id == b("wallet"), approved_values.c.subject == b("subject_")
    )
)
_KEEP_APPROVED = Statement(
    sa.text(
        "INSERT INTO approved_values (wallet_id, subject, value, at) VALUES (:wallet, :subject_, :value_, :at)"
        " ON CONFLICT (wallet_id, subject) DO UPDATE SET value = excluded.value, at = excluded.at"
    )
)


class Ledger:
    """What wallets have spent up to a moment, for a unit that judges spends one after the other: read once, and with
    what the unit itself adds. What `held` transactions have reserved before their turn does not count: they are judged
    again."""

    def __init__(self, tx: Tx, now_ms: int, held: Iterable[str] = ()) -> None:
        self._tx = tx
        self._now_ms = now_ms
        self._not_counted = frozenset(held)
        self._judged: str | None = None
        self._replaced: set[str] = set()
        self._windows: dict[tuple[str, str, int], tuple[PendingResult, PendingResult, PendingResult]] = {}
        self._seen: dict[tuple[str, str], PendingResult] = {}
        self._added: dict[tuple[str, str], int] = {}
        self._noted: dict[tuple[str, str], int] = {}
        self._approved: dict[tuple[str, str], str | None] = {}
        self._kept: dict[tuple[str, str], str] = {}
        self._reserved: list[dict[str, object]] = []

    def ask(self, wallet_id: str, windows: Iterable[tuple[str, int]], addresses: Iterable[str] = ()) -> None:
        """Asks for what is going to be needed, so that all of it takes one round trip: measures with the lengths of
        their windows, and recipients in lower case."""
        for measure, window_ms in windows:
            key = (wallet_id, measure, window_ms)
            if key not in self._windows:
                of = {"wallet": wallet_id, "measure_": measure}
                self._windows[key] = (
                    self._tx.soon_all(_OPEN_UNITS, **of),
                    self._tx.soon(_LAST, **of),
                    self._tx.soon(_LAST_BEFORE, **of, until=self._now_ms - window_ms),
                )
        for address in addresses:
            if (wallet_id, address) not in self._seen:
                self._seen[wallet_id, address] = self._tx.soon(_SEEN, wallet=wallet_id, address_=address)

    def judge_again(self, subject_id: str | None) -> None:
        """From here on this one is judged, which may have reserved before its turn; what it reserves now replaces
        that."""
        self._judged = subject_id

    def spent(self, wallet_id: str, measure: str, window_ms: int) -> int:
        """Units that count in the window that ends now: all open ones, and those settled within the window."""
        self.ask(wallet_id, [(measure, window_ms)])
        self._tx.wait()
        open_ones, last, before = (found.value for found in self._windows[wallet_id, measure, window_ms])
        without = {self._judged, *self._replaced, *self._not_counted}
        units = sum(int(row[0]) for row in open_ones if row[1] not in without)
        units += self._added.get((wallet_id, measure), 0)
        if last is None:
            return units
        return units + int(last[0]) - (int(before[0]) if before is not None else 0)

    def first_seen(self, wallet_id: str, addresses: Collection[str]) -> dict[str, int]:
        """When each recipient (lower case) became known to the wallet; unknown ones are omitted."""
        self.ask(wallet_id, (), addresses)
        self._tx.wait()
        found = {address: self._seen[wallet_id, address].value for address in addresses}
        stored = {address: int(row[0]) for address, row in found.items() if row is not None}
        noted = {address: self._noted.get((wallet_id, address)) for address in addresses}
        return {address: at for address, at in noted.items() if at is not None} | stored

    def note_recipients(self, wallet_id: str, addresses: Iterable[str]) -> None:
        """Records recipients as known from now on, unless they already are."""
        for address in addresses:
            self._noted.setdefault((wallet_id, address), self._now_ms)

    def approved(self, wallet_id: str, subject: str) -> str | None:
        """The price of an asset, or of gas on a chain, that a person approved last for the wallet."""
        key = (wallet_id, subject)
        if key not in self._approved:
            row = self._tx.one(_APPROVED, wallet=wallet_id, subject_=subject)
            self._approved[key] = None if row is None else str(row[0])
        return self._kept.get(key, self._approved[key])

    def keep_approved(self, wallet_id: str, subject: str, value: str) -> None:
        """Keeps a price that a person approved for the wallet."""
        self._kept[wallet_id, subject] = value

    def reserve(
        self, *, wallet_id: str, subject_id: str, units: Mapping[str, int], prices: Mapping[str, str] | None = None
    ) -> None:
        """Opens a reservation: `units` by measure, `prices` the JSON of the price used for each.

        A subject can reserve only once, unless it is judged again; a second call violates a constraint."""
        if subject_id == self._judged:
            self._replaced.add(subject_id)
        for measure, amount in sorted(units.items()):
            if amount or measure.startswith("gas"):
                self._added[wallet_id, measure] = self._added.get((wallet_id, measure), 0) + amount
                self._reserved.append(
                    {
                        "wallet_id": wallet_id,
                        "subject_id": subject_id,
                        "measure": measure,
                        "units": str(amount),
                        "price": (prices or {}).get(measure),
                        "opened_at": self._now_ms,
                    }
                )

    def write(self) -> None:
        """Writes what was reserved and noted; call it once, at the end."""
        noted = sorted(self._noted.items())
        self._tx.many(_NOTE, [{"wallet": wallet, "address_": address, "at": at} for (wallet, address), at in noted])
        kept = [{"wallet": of[0], "subject_": of[1], "value_": value} for of, value in sorted(self._kept.items())]
        self._tx.many(_KEEP_APPROVED, [{**one, "at": self._now_ms} for one in kept])
        self._tx.many(_DROP, [{"subject_id_": subject_id} for subject_id in sorted(self._replaced)])
        self._tx.many(_ADD, self._reserved)


class Totals:
    """The running totals of settled units, for a unit that settles reservations one after the other."""

    def __init__(self, tx: Tx) -> None:
        self._tx = tx
        self._asked: dict[tuple[str, str], PendingResult] = {}
        self._newest: dict[tuple[str, str], tuple[int, int, int]] = {}
        self._settled: list[dict[str, object]] = []

    def ask(self, rows: Iterable[ReservationRow]) -> None:
        """Asks for the totals that are going to be needed, so that all of them take one round trip."""
        for row in rows:
            key = (row.wallet_id, row.measure)
            if row.state == OPEN and key not in self._asked:
                self._asked[key] = self._tx.soon(_LAST, wallet=row.wallet_id, measure_=row.measure)

    def settle(self, row: ReservationRow, units: int, at_ms: int) -> None:
        """Settles one open row, after a wait for its total. Its time is never before the last settled one, even if the
        clock was set back."""
        key = (row.wallet_id, row.measure)
        total, settled_at, position = self._newest.get(key) or _numbers(self._asked[key].value)
        self._newest[key] = total, settled_at, position = total + units, max(at_ms, settled_at), position + 1
        self._settled.append(
            {
                "id_": row.id,
                "new_units": str(units),
                "new_settled_at": settled_at,
                "new_position": position,
                "new_total": str(total),
            }
        )

    def write(self) -> None:
        """Writes what was settled; call it once, at the end."""
        self._tx.many(_SETTLE, self._settled)


def _numbers(last: Row | None) -> tuple[int, int, int]:
    return (0, 0, 0) if last is None else (int(last[0]), int(last[1]), int(last[2]))


def ask_of_subject(tx: Tx, subject_id: str) -> Callable[[], list[ReservationRow]]:
    """Asks for all measures of one transaction or signature; the function lists them after a wait."""
    asked = tx.soon_all(_OF_SUBJECT, subject_id_=subject_id)

    def found() -> list[ReservationRow]:
        rows = (ReservationRow(*row) for row in asked.value)
        return [replace(row, units=int(row.units)) for row in rows]

    return found


def list_of_subject(tx: Tx, subject_id: str) -> list[ReservationRow]:
    """Lists all measures of one transaction or signature."""
    found = ask_of_subject(tx, subject_id)
    tx.wait()
    return found()


def spent_in_window(tx: Tx, wallet_id: str, measure: str, window_ms: int, now_ms: int) -> int:
    """Units that count in the window ending now: all open ones, and those settled within the window."""
    return Ledger(tx, now_ms).spent(wallet_id, measure, window_ms)


def open_units(tx: Tx, wallet_id: str, measure: str) -> int:
    """Units reserved and not settled yet."""
    return sum(int(row[0]) for row in tx.all(_OPEN_UNITS, wallet=wallet_id, measure_=measure))


def drop(tx: Tx, subject_id: str) -> None:
    """Removes what a transaction that is not signed has reserved before its turn."""
    tx.do(_DROP, subject_id_=subject_id)


def change_open(tx: Tx, subject_id: str, units: Mapping[str, int]) -> None:
    """Changes the units of open measures, because a replacement may pay a higher network fee."""
    for row in list_of_subject(tx, subject_id):
        if row.measure in units:
            tx.do(_CHANGE, id_=row.id, new_units=str(units[row.measure]))


def release(tx: Tx, rows: Iterable[ReservationRow], at_ms: int) -> None:
    """Releases open rows, because nothing was spent."""
    for row in rows:
        if row.state == OPEN:
            tx.do(_RELEASE, id_=row.id, new_settled_at=at_ms)


def first_seen(tx: Tx, wallet_id: str, addresses: Collection[str]) -> dict[str, int]:
    """When each recipient (lower case) became known to the wallet; unknown ones are omitted."""
    return Ledger(tx, 0).first_seen(wallet_id, addresses)


def note_recipients(tx: Tx, wallet_id: str, addresses: Iterable[str], at_ms: int) -> None:
    """Records recipients as known from now on, unless they already are."""
    tx.many(_NOTE, [{"wallet": wallet_id, "address_": address, "at": at_ms} for address in sorted(set(addresses))])
