"""Makes, changes and deactivates people as a directory says, and gives them what their groups there may do.

A user of the directory is a person here, with the same id. Groups decide what a person may do from the first time that
they are in one; before that, and without `sign_in_groups`, it stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

from dustrun import clock, ids
from dustrun.core.values import exact_json
from dustrun.errors import Code, Conflict, Forbidden, NotFound
from dustrun.records import dataclass
from dustrun.services.access import audit
from dustrun.services.access.api_keys import Keys, end_keys_of, ids_of, is_good, make_key, permissions_of, scoped_ids
from dustrun.services.access.oidc import rights
from dustrun.services.access.oidc.admission import EVERYBODY, permissions_of_group
from dustrun.services.access.principal import OF_THE_SERVER, PERMISSIONS, PROVISION, Principal
from dustrun.services.access.scim.documents import (
    Members,
    ScimGroup,
    ScimUser,
    patch_group,
    patch_user,
    read_group,
    read_user,
)
from dustrun.storage.access import directory as rows
from dustrun.storage.access import identities, people
from dustrun.storage.access import keys as key_rows
from dustrun.storage.access.directory import GroupRow, SeenUser, UserRow
from dustrun.storage.access.keys import KeyRow
from dustrun.storage.access.people import BY_DIRECTORY, PersonRow
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer

AT_ONCE: Final = 100
"""Members that one transaction changes: others get their turn between."""
Json = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ShownUser:
    """A user and their groups."""

    user: SeenUser
    groups: Sequence[GroupRow]


@dataclass(frozen=True, slots=True)
class ShownGroup:
    """A group and its members; None: not asked for."""

    row: GroupRow
    members: Sequence[str] | None


@dataclass(frozen=True, slots=True)
class ListPart:
    """Which part of a list is asked for: equal values by attribute, how many, and how many before them."""

    wanted: Mapping[str, str]
    limit: int
    offset: int


class Directory:
    """Use cases of the directory, for a key that may provision and nothing else."""

    def __init__(self, database: Database, writer: Writer, keys: Keys, groups: Mapping[str, Sequence[str]]) -> None:
        self._database = database
        self._writer = writer
        self._keys = keys
        given = {name: permissions_of_group(name, tuple(may)) for name, may in groups.items()}
        self._given = {name: may - OF_THE_SERVER for name, may in given.items()}

    # --- users ---

    async def list_users(self, principal: Principal, part: ListPart) -> tuple[int, list[ShownUser]]:
        """How many users there are of these, and some of them."""
        check_provisions(principal)
        wanted = {name: value.lower() if name == "username" else value for name, value in part.wanted.items()}

        def query(tx: Tx) -> tuple[int, list[ShownUser]]:
            of, now = principal.org_id, clock.now_ms()
            count, found = rows.list_users(tx, of, wanted, now=now, limit=part.limit, offset=part.offset)
            groups = rows.list_groups_of(tx, [one.row.person_id for one in found])
            return count, [ShownUser(one, groups.get(one.row.person_id, [])) for one in found]

        return await self._database.read(query)

    async def get_user(self, principal: Principal, user_id: str) -> ShownUser:
        """A user; raises `NotFound`."""
        check_provisions(principal)
        return await self._database.read(lambda tx: _shown(tx, principal.org_id, user_id))

    async def create_user(self, principal: Principal, sent: Json) -> ShownUser:
        """Makes a user: a new person, or one of this address whom no user is yet; raises `Conflict`."""
        check_provisions(principal)
        user = read_user(sent)

        def unit(tx: Tx) -> tuple[ShownUser, list[KeyRow]]:
            there = people.find_by_email(tx, principal.org_id, user.email)
            _check_free(tx, principal.org_id, user, None)
            person_id = self._make_person(tx, principal, user) if there is None else there.id
            now = clock.now_ms()
            row = UserRow(
                person_id=person_id,
                org_id=principal.org_id,
                user_name=user.user_name,
                external_id=user.external_id,
                names=exact_json.dumps_text(user.names),
                by_groups=False,
                created_at=now,
                changed_at=now,
            )
            rows.insert_user(tx, row)
            audit.record(tx, principal, "directory-user.create", person_id, email=user.email, adopted=there is not None)
            ended = _set_active(tx, principal, person_id, user.active is not False)
            return _shown(tx, principal.org_id, person_id), ended

        return await self._ending(unit)

    async def put_user(self, principal: Principal, user_id: str, sent: Json) -> ShownUser:
        """Replaces what is kept of a user; whoever is no longer active can do nothing at once."""
        return await self._change_user(principal, user_id, lambda _: read_user(sent))

    async def patch_user(self, principal: Principal, user_id: str, sent: Json) -> ShownUser:
        """Changes a user as a patch says."""
        return await self._change_user(principal, user_id, lambda old: read_user(patch_user(document_of(old), sent)))

    async def _change_user(
        self, principal: Principal, user_id: str, changed: Callable[[SeenUser], ScimUser]
    ) -> ShownUser:
        check_provisions(principal)

        def unit(tx: Tx) -> tuple[ShownUser, list[KeyRow]]:
            old = _user(tx, principal.org_id, user_id)
            user = changed(old)
            _check_free(tx, principal.org_id, user, user_id)
            names = exact_json.dumps_text(user.names)
            is_active = old.is_active if user.active is None else user.active
            same = (user.user_name, user.external_id, names, user.email, is_active)
            if same != (old.row.user_name, old.row.external_id, old.row.names, old.email, old.is_active):
                now = clock.now_ms()
                fresh = replace(
                    old.row, user_name=user.user_name, external_id=user.external_id, names=names, changed_at=now
                )
                rows.update_user(tx, fresh, email=user.email, name=user.display)
                if user.email != old.email:
                    people.drop_links(tx, _person(tx, principal.org_id, user_id).key_id)  # they were for that address
                audit.record(tx, principal, "directory-user.update", user_id, email=user.email, active=is_active)
            ended = _set_active(tx, principal, user_id, is_active)
            if is_active and not old.is_active:
                ended += self._apply(tx, principal, user_id)
            return _shown(tx, principal.org_id, user_id), ended

        return await self._ending(unit)

    async def delete_user(self, principal: Principal, user_id: str) -> None:
        """Deactivates a user's person, and forgets the user."""
        check_provisions(principal)

        def unit(tx: Tx) -> tuple[None, list[KeyRow]]:
            _user(tx, principal.org_id, user_id)
            ended = _set_active(tx, principal, user_id, False)
            rows.drop_user(tx, user_id)
            audit.record(tx, principal, "directory-user.delete", user_id)
            return None, ended

        await self._ending(unit)

    def _make_person(self, tx: Tx, principal: Principal, user: ScimUser) -> str:
        person_id, given = ids.new_id("per"), sorted(self._given.get(EVERYBODY, ()))
        home = make_key(principal.org_id, user.display, given, created_by=principal.key_id, person_id=person_id).row
        key_rows.insert(tx, home)
        row = PersonRow(
            id=person_id,
            org_id=principal.org_id,
            name=user.display,
            email=user.email,
            key_id=home.id,
            invited_by=BY_DIRECTORY,
            created_at=home.created_at,
        )
        people.insert(tx, row)
        return person_id

    # --- groups ---

    async def list_groups(
        self, principal: Principal, part: ListPart, member: str | None, *, with_members: bool
    ) -> tuple[int, list[ShownGroup]]:
        """How many groups there are of these, and some of them."""
        check_provisions(principal)

        def query(tx: Tx) -> tuple[int, list[ShownGroup]]:
            count, found = rows.list_groups(
                tx, principal.org_id, part.wanted, member, limit=part.limit, offset=part.offset
            )
            return count, [ShownGroup(one, rows.list_members(tx, one.id) if with_members else None) for one in found]

        return await self._database.read(query)

    async def get_group(self, principal: Principal, group_id: str) -> ShownGroup:
        """A group; raises `NotFound`."""
        check_provisions(principal)

        def query(tx: Tx) -> ShownGroup:
            return ShownGroup(_group(tx, principal.org_id, group_id), rows.list_members(tx, group_id))

        return await self._database.read(query)

    async def create_group(self, principal: Principal, sent: Json) -> ShownGroup:
        """Makes a group, with its members."""
        check_provisions(principal)
        group, now = read_group(sent), clock.now_ms()
        row = GroupRow(
            id=ids.new_id("dgr"),
            org_id=principal.org_id,
            name=group.name,
            external_id=group.external_id,
            created_at=now,
            changed_at=now,
        )

        def unit(tx: Tx) -> None:
            _check_members(tx, principal.org_id, group.members or ())
            _check_group_free(tx, principal.org_id, group.name, None)
            rows.insert_group(tx, row)
            audit.record(tx, principal, "directory-group.create", row.id, name=group.name)

        await self._writer.write(unit)
        await self._set_members(principal, row.id, [Members("add", group.members or ())])
        return await self.get_group(principal, row.id)

    async def put_group(self, principal: Principal, group_id: str, sent: Json) -> ShownGroup:
        """Replaces a group's name and members."""
        group = read_group(sent)
        return await self._change_group(principal, group_id, group, [Members("replace", group.members or ())])

    async def patch_group(self, principal: Principal, group_id: str, sent: Json) -> ShownGroup:
        """Changes a group as a patch says."""
        row = (await self.get_group(principal, group_id)).row
        group, changes = patch_group(ScimGroup(row.name, row.external_id, None), sent)
        return await self._change_group(principal, group_id, group, changes)

    async def delete_group(self, principal: Principal, group_id: str) -> None:
        """Takes everybody out of a group, and deletes it."""
        await self.get_group(principal, group_id)
        await self._set_members(principal, group_id, [Members("replace", [])])

        def unit(tx: Tx) -> None:
            rows.drop_group(tx, group_id)
            audit.record(tx, principal, "directory-group.delete", group_id)

        await self._writer.write(unit)

    async def _change_group(
        self, principal: Principal, group_id: str, group: ScimGroup, changes: Sequence[Members]
    ) -> ShownGroup:
        check_provisions(principal)

        def unit(tx: Tx) -> bool:
            old = _group(tx, principal.org_id, group_id)
            for change in changes:
                if change.how != "remove":
                    _check_members(tx, principal.org_id, change.ids)
            if (old.name, old.external_id) == (group.name, group.external_id):
                return False
            _check_group_free(tx, principal.org_id, group.name, group_id)
            fresh = replace(old, name=group.name, external_id=group.external_id, changed_at=clock.now_ms())
            rows.update_group(tx, fresh)
            audit.record(tx, principal, "directory-group.update", group_id, name=group.name)
            return True

        is_renamed = await self._writer.write(unit)
        await self._set_members(principal, group_id, changes)
        if is_renamed:
            there = await self._database.read(lambda tx: rows.list_members(tx, group_id))
            await self._in_pieces(principal, there, lambda tx, person_id: None)
        return await self.get_group(principal, group_id)

    async def _set_members(self, principal: Principal, group_id: str, changes: Sequence[Members]) -> None:
        """Changes members a hundred at a time. A directory that is cut off in the middle sends it once more."""
        for change in changes:
            there = set(await self._database.read(lambda tx: rows.list_members(tx, group_id)))
            given = dict.fromkeys(change.ids)
            comes = [one for one in given if one not in there] if change.how != "remove" else []
            leaves = sorted(there & given.keys() if change.how == "remove" else there - given.keys())
            if comes:
                await self._in_pieces(principal, comes, lambda tx, one: self._join(tx, principal, group_id, one))
            if leaves and change.how != "add":
                await self._in_pieces(principal, leaves, lambda tx, one: _leave(tx, principal, group_id, one))

    async def _in_pieces(
        self, principal: Principal, person_ids: Sequence[str], change: Callable[[Tx, str], None]
    ) -> None:
        for start in range(0, len(person_ids), AT_ONCE):
            some = person_ids[start : start + AT_ONCE]

            def unit(tx: Tx, some: Sequence[str] = some) -> tuple[None, list[KeyRow]]:
                ended: list[KeyRow] = []
                for person_id in some:
                    change(tx, person_id)
                    ended += self._apply(tx, principal, person_id)
                return None, ended

            await self._ending(unit)

    def _join(self, tx: Tx, principal: Principal, group_id: str, person_id: str) -> None:
        if rows.is_member(tx, group_id, person_id) or not rows.known_users(tx, principal.org_id, [person_id]):
            return  # meanwhile
        rows.add_member(tx, group_id, person_id)
        if self._given:
            rows.let_groups_decide(tx, person_id)
        audit.record(tx, principal, "directory-group.join", group_id, person=person_id)

    # --- what they may do ---

    def _apply(self, tx: Tx, principal: Principal, person_id: str) -> list[KeyRow]:
        """Gives a person what their groups may do; the keys that were revoked for it."""
        if not rows.decides(tx, person_id):
            return []
        person = _person(tx, principal.org_id, person_id)
        home = _home(tx, person)
        if not is_good(home):
            return []
        groups = rows.list_groups_of(tx, [person_id]).get(person_id, [])
        names = {EVERYBODY, *(one.name for one in groups), *(one.external_id for one in groups if one.external_id)}
        gets = frozenset[str]().union(*(may for name, may in self._given.items() if name in names))
        return rights.give(tx, person, home, sorted(gets), by=(principal, BY_DIRECTORY))[1]

    async def _ending(self, unit: Callable[[Tx], tuple[T, list[KeyRow]]]) -> T:
        """The answer of a unit, once the keys that it has revoked are forgotten."""
        done = await self._writer.write(unit, lambda done: self._keys.forget_all(done[1]))
        return done[0]


def check_provisions(principal: Principal) -> None:
    """Raises `Forbidden` unless the key has the one permission, and no other: what is written into a directory's
    settings opens nothing else, and no other key makes people in its name."""
    if principal.permissions != {PROVISION} or principal.is_session or principal.is_limited:
        raise Forbidden(f'This needs an API key with "{PROVISION}" alone, without limits.')


def document_of(user: SeenUser) -> Json:
    """A user as the directory would send them."""
    named: Json = exact_json.loads(user.row.names)
    given = {"userName": user.row.user_name, "active": user.is_active, **named}
    if user.row.external_id is not None:
        given["externalId"] = user.row.external_id
    return {**given, "emails": [{"value": user.email, "type": "work", "primary": True}]}


def _set_active(tx: Tx, principal: Principal, person_id: str, wanted: bool) -> list[KeyRow]:
    """Deactivates a person, as an administrator would, or lets them in again; raises `Conflict` if nobody else could
    administer the organisation, and for whoever was here before the directory: what they may do comes from an
    administrator, who alone gives it back."""
    person = _person(tx, principal.org_id, person_id)
    home = _home(tx, person)
    if is_good(home) == wanted:
        return []
    actor = Principal(principal.key_id, principal.org_id, PERMISSIONS)
    if not wanted:
        identities.end(tx, person_id, at=None)
        people.drop_links(tx, home.id)
        return end_keys_of(tx, actor, person_id)
    if person.invited_by != BY_DIRECTORY:
        raise Conflict(
            f'"{person.email}" was here before the directory and is deactivated: an administrator must let them in '
            f"again (dustrun people activate {person_id}).",
            code=Code.PERSON_DEACTIVATED,
        )
    fresh = make_key(
        person.org_id,
        person.name,
        permissions_of(home),
        workflow_ids=scoped_ids(tx, home),
        workflow_scope=home.workflow_scope,
        wallet_ids=ids_of(home.wallet_ids),
        connector_ids=ids_of(home.connector_ids),
        created_by=principal.key_id,
        person_id=person_id,
    ).row
    key_rows.insert(tx, fresh)
    people.update(tx, person_id, name=person.name, key_id=fresh.id, role=person.role)
    return []


def _leave(tx: Tx, principal: Principal, group_id: str, person_id: str) -> None:
    rows.drop_member(tx, group_id, person_id)
    audit.record(tx, principal, "directory-group.leave", group_id, person=person_id)


def _check_free(tx: Tx, org_id: str, user: ScimUser, own: str | None) -> None:
    now = clock.now_ms()
    same = rows.find_user(tx, org_id, "username", user.user_name.lower(), now=now)
    if same is not None and same.row.person_id != own:
        raise Conflict(f'There is a user with the userName "{user.user_name}".', code=Code.PERSON_EMAIL_TAKEN)
    other = people.find_by_email(tx, org_id, user.email)
    is_user = other is not None and bool(rows.known_users(tx, org_id, [other.id]))
    if other is not None and other.id != own and (is_user or own is not None):
        raise Conflict(
            f'Another person has the e-mail address "{user.email}". Two people cannot have one.',
            code=Code.PERSON_EMAIL_TAKEN,
        )


def _check_group_free(tx: Tx, org_id: str, name: str, own: str | None) -> None:
    same = rows.find_group(tx, org_id, "displayname", name)
    if same is not None and same.id != own:
        raise Conflict(f'There is a group with the displayName "{name}".', code=Code.ROLE_TAKEN)


def _check_members(tx: Tx, org_id: str, person_ids: Sequence[str]) -> None:
    for start in range(0, len(person_ids), AT_ONCE):
        some = person_ids[start : start + AT_ONCE]
        missing = sorted(set(some) - rows.known_users(tx, org_id, some))
        if missing:
            raise NotFound(f'There is no user "{missing[0]}".', code=Code.PERSON_UNKNOWN)


def _shown(tx: Tx, org_id: str, person_id: str) -> ShownUser:
    user = _user(tx, org_id, person_id)
    return ShownUser(user, rows.list_groups_of(tx, [person_id]).get(person_id, []))


def _user(tx: Tx, org_id: str, person_id: str) -> SeenUser:
    found = rows.find_user(tx, org_id, "id", person_id, now=clock.now_ms())
    if found is None:
        raise NotFound(f'There is no user "{person_id}".', code=Code.PERSON_UNKNOWN)
    return found


def _group(tx: Tx, org_id: str, group_id: str) -> GroupRow:
    found = rows.find_group(tx, org_id, "id", group_id)
    if found is None:
        raise NotFound(f'There is no group "{group_id}".', code=Code.PERSON_UNKNOWN)
    return found


def _person(tx: Tx, org_id: str, person_id: str) -> PersonRow:
    found = people.find(tx, org_id, person_id)
    assert found is not None, "people are never deleted"
    return found


def _home(tx: Tx, person: PersonRow) -> KeyRow:
    found = key_rows.find(tx, person.org_id, person.key_id)
    assert found is not None, "keys are never deleted"
    return found
