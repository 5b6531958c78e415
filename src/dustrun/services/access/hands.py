"""Which keys are one hand: nobody can tell them from one person's."""

from __future__ import annotations

from dustrun.services.access.api_keys import permissions_of
from dustrun.storage.access import keys as rows
from dustrun.storage.access.keys import KeyRow
from dustrun.storage.db.statement import Tx


def hand_of(tx: Tx, org_id: str, key_id: str) -> str:
    """The key that stands for a hand: the topmost of those that made this one and that are no administrators. Keys of
    administrators, who make everybody's keys, are a hand each; so is whoever has no key, like the holder of a link."""
    while (row := rows.find(tx, org_id, key_id)) is not None and row.created_by is not None:
        maker = rows.find(tx, org_id, row.created_by)
        if administers(row) or maker is None or administers(maker):
            break
        key_id = maker.id
    return key_id


def is_one_hand(tx: Tx, org_id: str, key_id: str, other: str) -> bool:
    """Whether two keys are the same, one made the other, or both come from one key that is no administrator."""
    return key_id == other or hand_of(tx, org_id, key_id) == hand_of(tx, org_id, other)


def administers(row: KeyRow) -> bool:
    """Whether a key administers its organisation. One that is limited to some workflows or wallets does not."""
    return row.workflow_ids is None and row.wallet_ids is None and "admin" in permissions_of(row)
