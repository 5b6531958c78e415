"""People of an organisation: who they are, which keys are theirs, and what ends with them.

The sessions of a person stand for a key of their own whose secret nobody has. So what holds for keys holds for people:
permissions, limits, in whose name runs are, and that all of it ends at once when the key is revoked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from dustrun import clock, ids
from dustrun.core.values import exact_json
from dustrun.errors import Code, Conflict, Invalid, NotFound, Problem
from dustrun.records import dataclass
from dustrun.services.access import audit, idempotency
from dustrun.services.access.api_keys import (
    Keys,
    check_grant,
    check_there,
    end_keys_of,
    end_within,
    good_maker,
    ids_of,
    is_good,
    limits_of_new,
    make_key,
    permissions_of,
    scoped_ids,
)
from dustrun.services.access.hands import hand_of
from dustrun.services.access.paging import Page, Paging, page_of
from dustrun.services.access.principal import Principal
from dustrun.services.access.roles import permissions_of_role
from dustrun.services.access.sessions import OpenSession, Sessions, end_one, list_open, seen_by
from dustrun.storage.access import identities
from dustrun.storage.access import keys as key_rows
from dustrun.storage.access import people as rows
from dustrun.storage.access import service_accounts as account_rows
from dustrun.storage.access import sessions as session_rows
from dustrun.storage.access.keys import KeyRow
from dustrun.storage.access.people import PersonRow, SessionSeen
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer

INVITATION_MS: Final = 3 * 86_400_000
MOST_LISTED: Final = 100
_DOING: Final = "manage people"


@dataclass(frozen=True, slots=True)
class Person:
    """A person and the key of their sessions."""

    row: PersonRow
    home: KeyRow

    @property
    def state(self) -> str:
        """`deactivated` as soon as nothing can be done as this person, else whether they have come."""
        if not is_good(self.home):
            return "deactivated"
        return "active" if self.row.joined_at is not None else "invited"


@dataclass(frozen=True, slots=True)
class PersonLink:
    """A link that signs a person in once."""

    url: str
    expires_at: int


@dataclass(frozen=True, slots=True)
class Invited:
    """A new person, and the link that signs them in."""

    person: Person
    url: str
    link_expires_at: int


@dataclass(frozen=True, slots=True)
class Dependents:
    """The keys, triggers and runs in a person's name: at most `MOST_LISTED` ids of each."""

    keys: list[str]
    made_keys: list[str]
    sessions: int
    workflows: list[str]
    runs: list[str]
    form_links: list[str]
    service_accounts: list[str]


@dataclass(frozen=True, slots=True)
class Known:
    """A person, with what is in their name."""

    person: Person
    dependents: Dependents


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """The new values of a change; None: it stays. `key_ids` are added."""

    name: str | None = None
    state: str | None = None
    permissions: Sequence[str] | None = None
    role: str | None = None
    key_ids: Sequence[str] = ()


class People:
    """Use cases of people; for administrators without limits."""

    def __init__(self, database: Database, writer: Writer, keys: Keys, sessions: Sessions, base_url: str) -> None:
        self._database = database
        self._writer = writer
        self._keys = keys
        self._sessions = sessions
        self._base_url = base_url

    async def invite(
        self,
        principal: Principal,
        *,
        name: str,
        email: str,
        permissions: Sequence[str] = (),
        role: str | None = None,
        workflow_ids: Sequence[str] | None,
        wallet_ids: Sequence[str] | None,
        workflow_scope: Sequence[str] | None = None,
        connector_ids: Sequence[str] | None = None,
    ) -> Invited:
        """Makes a person with no more rights than the caller, and a link that signs them in; raises `Conflict` if the
        organisation has one with this address. `role`: whose permissions they get."""
        _check_manager(principal, "invite people")
        check_grant(principal, permissions)
        address = email.lower()

        def unit(tx: Tx) -> Invited:
            if rows.find_by_email(tx, principal.org_id, address) is not None:
                raise Conflict(
                    f'There is a person with the e-mail address "{address}". Make them a link, or make them active.',
                    code=Code.PERSON_EMAIL_TAKEN,
                )
            check_there(tx, principal.org_id, workflow_ids, wallet_ids, connector_ids)
            rights = permissions if role is None else _rights_of(tx, principal, role)
            person_id = ids.new_id("per")
            named, scope = limits_of_new(tx, principal, good_maker(tx, principal), workflow_ids, workflow_scope)
            limits = _HomeLimits(named, scope, wallet_ids, connector_ids)
            home = _make_home(tx, principal, person_id, name, rights, limits)
            row = PersonRow(
                id=person_id,
                org_id=principal.org_id,
                name=name,
                email=address,
                key_id=home.id,
                invited_by=principal.key_id,
                created_at=home.created_at,
                role=role,
            )
            rows.insert(tx, row)
            audit.record(
                tx, principal, "person.invite", row.id, email=address, permissions=sorted(rights), **_named(role)
            )
            link = self._link(tx, row)
            return Invited(Person(row, home), link.url, link.expires_at)

        return await idempotency.write(self._writer, unit)

    async def make_link(self, principal: Principal, person_id: str) -> PersonLink:
        """A new link that signs a person in, once; earlier ones no longer do."""
        _check_manager(principal, "make links that sign others in")

        def unit(tx: Tx) -> PersonLink:
            person = _get(tx, principal, person_id)
            if person.state == "deactivated":
                raise Conflict("The person is deactivated; make them active first.", code=Code.PERSON_DEACTIVATED)
            audit.record(tx, principal, "person.link", person_id)
            return self._link(tx, person.row)

        return await idempotency.write(self._writer, unit)

    async def list_page(self, principal: Principal, paging: Paging) -> Page[Person]:
        """Lists the organisation's people, newest first."""
        principal.need_no_limits(_DOING)

        def query(tx: Tx) -> list[Person]:
            found = rows.list_page(tx, principal.org_id, limit=paging.peek, offset=paging.offset)
            return [_with_home(tx, row) for row in found]

        return page_of(await self._database.read(query), paging)

    async def get(self, principal: Principal, person_id: str) -> Known:
        """A person, with what is in their name; raises `NotFound`."""
        principal.need_no_limits(_DOING)

        def query(tx: Tx) -> Known:
            person = _get(tx, principal, person_id)
            return Known(person, _dependents(tx, principal.org_id, person_id))

        return await self._database.read(query)

    async def change(self, principal: Principal, person_id: str, given: Given) -> Person:
        """Changes a person: name, keys that are theirs, permissions, state. New permissions, and the end of an active
        person, revoke all their keys and so end their sessions and streams at once."""
        _check_manager(principal, "change people")
        check_grant(principal, given.permissions or ())
        wanted = given

        def unit(tx: Tx) -> tuple[Person, list[KeyRow]]:
            person, given = _get(tx, principal, person_id), _with_rights(tx, principal, wanted)
            for number, key_id in enumerate(given.key_ids):
                _give(tx, principal, person_id, key_id, f"keyIds[{number}]")
            ends = given.state == "deactivated" or given.permissions is not None
            if given.state == "deactivated":
                identities.end(tx, person_id, at=None)
            ended = end_keys_of(tx, principal, person_id) if ends else []
            home = _home_after(tx, principal, person, given)
            role = given.role if given.permissions is not None else person.row.role
            rows.update(tx, person_id, name=given.name or person.row.name, key_id=home.id, role=role)
            said = {"name": given.name, "state": given.state, "permissions": given.permissions, **_named(given.role)}
            said = {field: value for field, value in said.items() if value is not None}
            audit.record(tx, principal, "person.update", person_id, keyIds=[*given.key_ids], **said)
            return _get(tx, principal, person_id), ended

        changed = await self._writer.write(unit, lambda done: self._keys.forget_all(done[1]))
        return changed[0]

    async def list_sessions(self, principal: Principal, person_id: str) -> list[OpenSession]:
        """Lists the sessions of a person that have not ended."""
        principal.need_no_limits(_DOING)

        def query(tx: Tx) -> list[SessionSeen]:
            _get(tx, principal, person_id)
            return list_open(tx, _good_keys(tx, principal.org_id, person_id))

        return [seen_by(principal, row) for row in await self._database.read(query)]

    async def end_session(self, principal: Principal, person_id: str, session_id: str) -> OpenSession:
        """Ends one session of a person, and the streams that it opened; raises `NotFound`."""
        principal.need_no_limits(_DOING)

        def unit(tx: Tx) -> SessionSeen:
            _get(tx, principal, person_id)
            row = end_one(tx, list_open(tx, _good_keys(tx, principal.org_id, person_id)), session_id)
            audit.record(tx, principal, "session.end", row.key_id, person=person_id, session=session_id)
            return row

        ended = await self._writer.write(unit)
        self._sessions.tell_ended([ended.hash])
        return seen_by(principal, ended)

    async def end_sessions(self, principal: Principal, person_id: str) -> int:
        """Ends all sessions of a person, and the streams that these opened; returns how many sessions there were."""
        principal.need_no_limits(_DOING)

        def unit(tx: Tx) -> list[str]:
            person = _get(tx, principal, person_id)
            key_ids = [row.id for row in key_rows.list_of_person(tx, principal.org_id, person_id)]
            rows.drop_links(tx, person.row.key_id)
            ended = rows.end_sessions(tx, key_ids)
            audit.record(tx, principal, "person.sign-out", person_id, sessions=len(ended))
            return ended

        ended = await self._writer.write(unit)
        self._sessions.tell_ended(ended)
        return len(ended)

    def _link(self, tx: Tx, row: PersonRow) -> PersonLink:
        token, expires_at = ids.new_secret("signin"), clock.now_ms() + INVITATION_MS
        rows.drop_links(tx, row.key_id)
        hash = ids.secret_hash(token)
        session_rows.add_link(tx, hash=hash, key_id=row.key_id, org_id=row.org_id, expires_at=expires_at)
        return PersonLink(f"{self._base_url}/#signin={token}", expires_at)


@dataclass(frozen=True, slots=True)
class _HomeLimits:
    """What a person can access. `workflow_scope`: what the workflows follow from, as it is stored."""

    workflow_ids: Sequence[str] | None
    workflow_scope: str | None
    wallet_ids: Sequence[str] | None
    connector_ids: Sequence[str] | None


def _check_manager(principal: Principal, doing: str) -> None:
    principal.need_no_limits(doing)
    principal.need_presence(doing)


def _with_home(tx: Tx, row: PersonRow) -> Person:
    home = key_rows.find(tx, row.org_id, row.key_id)
    assert home is not None, "keys are never deleted"
    return Person(row, home)


def _get(tx: Tx, principal: Principal, person_id: str) -> Person:
    row = rows.find(tx, principal.org_id, person_id)
    if row is None:
        raise NotFound(f'There is no person "{person_id}".', code=Code.PERSON_UNKNOWN)
    return _with_home(tx, row)


def _make_home(
    tx: Tx,
    principal: Principal,
    person_id: str,
    name: str,
    permissions: Sequence[str],
    limits: _HomeLimits,
) -> KeyRow:
    """The key that a person's sessions stand for; its secret is forgotten here."""
    home = make_key(
        principal.org_id,
        name,
        permissions,
        expires_at=end_within(good_maker(tx, principal), None),
        workflow_ids=limits.workflow_ids,
        wallet_ids=limits.wallet_ids,
        connector_ids=limits.connector_ids,
        created_by=principal.key_id,
        person_id=person_id,
        workflow_scope=limits.workflow_scope,
    ).row
    key_rows.insert(tx, home)
    return home


def _home_after(tx: Tx, principal: Principal, person: Person, given: Given) -> KeyRow:
    """The key of a person's sessions after a change: a new one with the same limits, if the old one does not do."""
    home, is_back = person.home, given.state == "active"
    if given.permissions is not None and person.state == "deactivated" and not is_back:
        problem = Problem("permissions", 'the person is deactivated: send `"state": "active"` too')
        raise Invalid("The request body is not valid.", details=[problem])
    if given.state == "deactivated" or (given.permissions is None and (is_good(home) or not is_back)):
        return home
    permissions = given.permissions or permissions_of(home)
    check_grant(principal, permissions)
    kept = map(ids_of, (home.wallet_ids, home.connector_ids))
    limits = _HomeLimits(scoped_ids(tx, home), home.workflow_scope, *kept)
    return _make_home(tx, principal, person.row.id, given.name or person.row.name, permissions, limits)


def _with_rights(tx: Tx, principal: Principal, given: Given) -> Given:
    return given if given.role is None else replace(given, permissions=_rights_of(tx, principal, given.role))


def _rights_of(tx: Tx, principal: Principal, role: str) -> list[str]:
    """The permissions of a role, of which none may be beyond the caller's."""
    permissions = permissions_of_role(tx, principal.org_id, role)
    check_grant(principal, permissions)
    return permissions


def _named(role: str | None) -> dict[str, str]:
    return {} if role is None else {"role": role}


def _give(tx: Tx, principal: Principal, person_id: str, key_id: str, field: str) -> None:
    """Makes a key of nobody a person's, for good, and all keys that are one hand with it."""
    row = key_rows.find(tx, principal.org_id, key_id)
    if row is None:
        problem = Problem(field, f'there is no API key "{key_id}"')
        raise Invalid("The request body is not valid.", details=[problem])
    if row.person_id == person_id:
        return
    if (
        row.person_id is not None
        or row.service_account_id is not None
        or hand_of(tx, principal.org_id, key_id) != key_id
    ):
        raise Conflict(
            f"The key \"{key_id}\" is another person's or a service account's, or was made by a key that is no "
            "administrator: give that one.",
            code=Code.KEY_TAKEN,
        )
    made = key_rows.list_made(tx, principal.org_id, key_id)
    for one in (row, *(one for one in made if hand_of(tx, principal.org_id, one.id) == key_id)):
        key_rows.give(tx, one.id, person_id)


def _good_keys(tx: Tx, org_id: str, person_id: str) -> set[str]:
    return {row.id for row in key_rows.list_of_person(tx, org_id, person_id) if is_good(row)}


def _dependents(tx: Tx, org_id: str, person_id: str) -> Dependents:
    """The things in a person's name: also of keys that have ended, since triggers and runs outlive them."""
    own = {row.id for row in key_rows.list_of_person(tx, org_id, person_id)}
    made = [one for key_id in sorted(own) for one in key_rows.list_made(tx, org_id, key_id)]
    left = {one.id for one in made if is_good(one) and one.person_id is None and one.service_account_id is None}
    published = rows.list_publishers(tx, org_id)
    workflows = {flow for flow, principal in published if exact_json.loads(principal)["keyId"] in own}
    good = _good_keys(tx, org_id, person_id)
    return Dependents(
        keys=sorted(good)[:MOST_LISTED],
        made_keys=sorted(left)[:MOST_LISTED],
        sessions=len(list_open(tx, good)),
        workflows=sorted(workflows)[:MOST_LISTED],
        runs=rows.list_open_runs(tx, org_id, own, limit=MOST_LISTED),
        form_links=rows.list_form_links(tx, org_id, own, now=clock.now_ms(), limit=MOST_LISTED),
        service_accounts=account_rows.list_of_owner(tx, org_id, person_id)[:MOST_LISTED],
    )
