"""Whose hands are in something: which keys are one hand, and who wrote what can shape a spend."""

from __future__ import annotations

from typing import Any

from dustrun import clock
from dustrun.core.values import exact_json
from dustrun.errors import Forbidden
from dustrun.records import dataclass
from dustrun.services.access.api_keys import permissions_of, principal_of
from dustrun.services.access.principal import ALL_WALLETS, Principal
from dustrun.storage.access import hands as rows
from dustrun.storage.access import keys as key_rows
from dustrun.storage.access import service_accounts as account_rows
from dustrun.storage.access.keys import KeyRow
from dustrun.storage.data import managed_tables
from dustrun.storage.db.statement import Tx


def hand_of(tx: Tx, org_id: str, key_id: str) -> str:
    """The id of a hand: the person whose key it is, or the service account. A key of nobody has the hand of the
    topmost of those that made it and that are no administrators. Keys of administrators, who make everybody's keys, are
    a hand each; so is whoever has no key, like the holder of a link."""
    while (row := key_rows.find(tx, org_id, key_id)) is not None:
        if row.person_id is not None or row.service_account_id is not None:
            return row.person_id or str(row.service_account_id)
        if row.created_by is None:
            break
        maker = key_rows.find(tx, org_id, row.created_by)
        if administers(row) or maker is None or administers(maker):
            break
        key_id = maker.id
    return key_id


def hands_behind(tx: Tx, org_id: str, key_id: str) -> frozenset[str]:
    """Every hand that a key may be in. Of a service account's these are the account, whoever answers for it or did
    since the key was made, and whoever made the key and so has seen its secret; of any other key its hand alone."""
    found = set[str]()
    while (row := key_rows.find(tx, org_id, key_id)) is not None and row.service_account_id is not None:
        account = account_rows.find(tx, org_id, row.service_account_id)
        found.add(row.service_account_id)
        if account is not None:
            past = [person for person, until in exact_json.loads(account.past_owners) if row.created_at <= until]
            found.update([*past, *([account.owner_id] if account.owner_id is not None else [])])
        if row.created_by is None:
            return frozenset(found)
        key_id = row.created_by
    return frozenset({*found, hand_of(tx, org_id, key_id)})


def is_one_hand(tx: Tx, org_id: str, key_id: str, other: str) -> bool:
    """Whether two keys are the same or one person's, one made the other, or both come from one key that is no
    administrator; or one is a service account's, and the other is in the hand of who answers for it or made its key."""
    return key_id == other or not hands_behind(tx, org_id, key_id).isdisjoint(hands_behind(tx, org_id, other))


def is_of_account(tx: Tx, org_id: str, key_id: str) -> bool:
    """Whether a key is a service account's."""
    row = key_rows.find(tx, org_id, key_id)
    return row is not None and row.service_account_id is not None


def need_person(tx: Tx, principal: Principal, doing: str) -> None:
    """Raises `Forbidden` for a service account, which is nobody's hand; `doing` completes "it cannot …"."""
    if is_of_account(tx, principal.org_id, principal.key_id):
        raise Forbidden(f"A service account is nobody's hand: it cannot {doing}. A person must, with a key of theirs.")


def administers(row: KeyRow) -> bool:
    """Whether a key administers its organisation. One that is limited to some workflows, wallets or connectors does
    not."""
    return not principal_of(row).is_limited and "admin" in permissions_of(row)


@dataclass(frozen=True, slots=True)
class Hand:
    """A key that wrote something, and what it could spend from then: None nothing, `*` every wallet, else a JSON list.
    `writes`: how often it wrote without being free to spend from every wallet. Without a key nobody knows who it was.
    """

    key_id: str
    wallets: str | None
    writes: int = 0


UNKNOWN = Hand(rows.UNKNOWN, None, 1)


def hands_of(tx: Tx, org_id: str, kind: str, object_: str) -> list[Hand]:
    """Everybody who has written a thing. It was there before hands were kept if nobody has: then they are unknown."""
    found = [Hand(row.key_id, row.wallets, row.writes) for row in rows.list_of(tx, org_id, kind, object_)]
    return found or [UNKNOWN]


def table_object(tx: Tx, org_id: str, name: str) -> str:
    """The object under which a table, named by name or id, has its hands: its id, or the mark of its deletion."""
    table = managed_tables.find(tx, org_id, name)
    return table.id if table is not None else rows.deleted(name)


def note(tx: Tx, principal: Principal, kind: str, object_: str, *, is_new: bool = False) -> None:
    """Keeps that the caller has written a thing, in the transaction that does; `is_new`: it was not there before."""
    note_hand(tx, principal.org_id, kind, object_, Hand(principal.key_id, principal.spendable), is_new=is_new)


def note_hand(tx: Tx, org_id: str, kind: str, object_: str, hand: Hand, *, is_new: bool = False) -> bool:
    """Keeps that a hand has written a thing. False if it may spend from every wallet anyway: further writes of it
    change nothing."""
    known, now = rows.list_of(tx, org_id, kind, object_), clock.now_ms()
    if not known and not is_new:  # others may have written it before hands were kept
        rows.put(tx, org_id, rows.HandRow(kind=kind, object=object_, changed_at=now, **_columns(UNKNOWN)))
    own = next((row for row in known if row.key_id == hand.key_id), None)
    is_free = is_free_to_spend(tx, org_id, hand)
    if own is None or not is_free:
        wallets = hand.wallets if own is None or own.writes == 0 else _common(own.wallets, hand.wallets)
        fresh = Hand(hand.key_id, wallets, 0 if is_free else 1)
        rows.put(tx, org_id, rows.HandRow(kind=kind, object=object_, changed_at=now, **_columns(fresh)))
    return not is_free


def is_free_to_spend(tx: Tx, org_id: str, hand: Hand) -> bool:
    """Whether a hand could spend from every wallet, in every workflow."""
    if hand.wallets != ALL_WALLETS:
        return False
    key = key_rows.find(tx, org_id, hand.key_id)
    return key is not None and key.workflow_ids is None


def _columns(hand: Hand) -> dict[str, Any]:
    return {"key_id": hand.key_id, "wallets": hand.wallets, "writes": hand.writes}


def _common(one: str | None, other: str | None) -> str | None:
    """The wallets that are in both."""
    if ALL_WALLETS in (one, other):
        return other if one == ALL_WALLETS else one
    if one is None or other is None:
        return None
    return exact_json.dumps_text(sorted({*exact_json.loads(one)} & {*exact_json.loads(other)}))
