"""The rights of a person after the provider has answered: those that their groups give, and none once it has let them
go."""

from __future__ import annotations

from collections.abc import Sequence

from dustrun import clock
from dustrun.core.values import exact_json
from dustrun.services.access import audit
from dustrun.services.access.api_keys import end_keys_of, ids_of, is_good, make_key, permissions_of, scoped_ids
from dustrun.services.access.principal import PERMISSIONS, Principal
from dustrun.storage.access import identities
from dustrun.storage.access import keys as key_rows
from dustrun.storage.access import people as people_rows
from dustrun.storage.access.identities import IdentityRow
from dustrun.storage.access.keys import KeyRow
from dustrun.storage.access.people import PersonRow
from dustrun.storage.db.statement import Tx


def give(
    tx: Tx,
    person: PersonRow,
    home: KeyRow,
    permissions: Sequence[str] | None,
    by: tuple[Principal, str] | None = None,
) -> tuple[KeyRow, list[KeyRow]]:
    """Gives a person exactly these permissions; None: those that they had. The key of their sessions, and the keys that
    were revoked for it: a permission that is gone ends whatever had it, as when an administrator takes it away. `by`:
    who does it, and what that is called; None: the provider."""
    had, gets = set(permissions_of(home)), set(permissions_of(home) if permissions is None else permissions)
    if is_good(home) and had == gets:
        return home, []
    actor = _actor(home) if by is None else Principal(by[0].key_id, home.org_id, PERMISSIONS)
    named = "provider" if by is None else by[1]
    if is_good(home) and had < gets:
        key_rows.widen(tx, home.id, exact_json.dumps_text(sorted(gets)))
        people_rows.update(tx, person.id, name=person.name, key_id=home.id, role=None)
        audit.record(tx, actor, "person.update", person.id, permissions=sorted(gets), by=named)
        return _key(tx, home), []
    ended = end_keys_of(tx, actor, person.id, keeps_way_in=True)
    fresh = make_key(
        home.org_id,
        person.name,
        sorted(gets),
        expires_at=home.expires_at,
        workflow_ids=scoped_ids(tx, home),
        wallet_ids=ids_of(home.wallet_ids),
        connector_ids=ids_of(home.connector_ids),
        created_by=home.created_by,
        person_id=person.id,
        workflow_scope=home.workflow_scope,
    ).row
    key_rows.insert(tx, fresh)
    people_rows.update(tx, person.id, name=person.name, key_id=fresh.id, role=person.role if had == gets else None)
    audit.record(tx, actor, "person.update", person.id, permissions=sorted(gets), by=named)
    return fresh, [_key(tx, row) for row in ended]


def renew(tx: Tx, identity: IdentityRow, permissions: Sequence[str] | None) -> list[KeyRow]:
    """As `give`, for a person whom the provider has been asked about; the keys that were revoked."""
    person, home = _whose(tx, identity)
    if not is_good(home):  # somebody here has decided otherwise
        identities.end(tx, person.id, at=None)
        return []
    return give(tx, person, home, permissions)[1]


def end(tx: Tx, identity: IdentityRow, why: str) -> list[KeyRow]:
    """Ends whatever a person can do here, whom the provider no longer lets in, until it does again. Returns the keys
    that were revoked."""
    person, home = _whose(tx, identity)
    if not is_good(home):
        identities.end(tx, person.id, at=None)
        return []
    people_rows.drop_links(tx, home.id)
    identities.end(tx, person.id, at=clock.now_ms())
    audit.record(tx, _actor(home), "person.update", person.id, state="deactivated", by="provider", why=why)
    return [_key(tx, row) for row in end_keys_of(tx, _actor(home), person.id, keeps_way_in=True)]


def _whose(tx: Tx, identity: IdentityRow) -> tuple[PersonRow, KeyRow]:
    person = people_rows.find(tx, identity.org_id, identity.person_id)
    assert person is not None, "people are never deleted"
    return person, _find(tx, person.org_id, person.key_id)


def _actor(home: KeyRow) -> Principal:
    """Who does it: nobody here; the log names the person's own key."""
    return Principal(home.id, home.org_id, PERMISSIONS)


def _key(tx: Tx, row: KeyRow) -> KeyRow:
    return _find(tx, row.org_id, row.id)


def _find(tx: Tx, org_id: str, key_id: str) -> KeyRow:
    found = key_rows.find(tx, org_id, key_id)
    assert found is not None, "keys are never deleted"
    return found
