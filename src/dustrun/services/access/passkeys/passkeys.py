"""Passkeys of people: another way to sign in, and, for whoever has one, what shows that they are there.

A challenge is used up by the first answer to it, right or wrong, and answers only what it was made for: to sign in, or
to add a passkey of one person.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from dustrun import clock, ids
from dustrun.errors import Code, Conflict, Forbidden, NotFound
from dustrun.records import dataclass
from dustrun.services.access import audit
from dustrun.services.access.api_keys import is_good, principal_of
from dustrun.services.access.passkeys import ceremony
from dustrun.services.access.principal import Principal
from dustrun.services.access.sessions import NewSession, start_session
from dustrun.storage.access import identities as attempts
from dustrun.storage.access import keys as key_rows
from dustrun.storage.access import passkeys as rows
from dustrun.storage.access import people as person_rows
from dustrun.storage.access.passkeys import PasskeyRow
from dustrun.storage.access.people import PersonRow
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer

MOST: Final = 20
_SIGNS_IN: Final = "passkey"
_DOING: Final = "manage passkeys"


@dataclass(frozen=True, slots=True)
class PasskeyRequest:
    """A request to a browser: the `publicKey` of its call, as JSON."""

    public_key: dict[str, Any]


class Passkeys:
    """Use cases of passkeys."""

    def __init__(self, database: Database, writer: Writer, base_url: str) -> None:
        self._database = database
        self._writer = writer
        self._place = ceremony.place_of(base_url)

    async def begin(self, principal: Principal) -> PasskeyRequest:
        """Asks the caller's browser for a new passkey."""
        principal.need_presence(_DOING)

        def query(tx: Tx) -> tuple[PersonRow, list[PasskeyRow]]:
            person = _person(tx, principal)
            return person, rows.list_of_person(tx, person.id)

        person, known = await self._database.read(query)
        return PasskeyRequest(
            ceremony.creation_options(self._place, person, await self._challenge(_adds(person.id)), known)
        )

    async def add(self, principal: Principal, name: str, credential: Mapping[str, Any]) -> PasskeyRow:
        """Adds the passkey that a browser has made for the caller; raises `Forbidden`, or `Conflict` if it is known."""
        principal.need_presence(_DOING)
        person = await self._database.read(lambda tx: _person(tx, principal))
        challenge = await self._take(credential, _adds(person.id))
        made = await ceremony.check_new(self._place, credential, challenge)

        def unit(tx: Tx) -> PasskeyRow:
            if rows.find(tx, made.id) is not None:
                raise Conflict("This passkey is known already.", code=Code.PASSKEY_TAKEN)
            if len(rows.list_of_person(tx, person.id)) >= MOST:
                raise Conflict(f"A person has {MOST} passkeys at most; remove one first.", code=Code.PASSKEY_TAKEN)
            row = PasskeyRow(
                id=ids.new_id("pk"),
                org_id=person.org_id,
                person_id=person.id,
                name=name,
                credential_id=made.id,
                public_key=made.public_key,
                sign_count=made.sign_count,
                created_at=clock.now_ms(),
            )
            rows.insert(tx, row)
            audit.record(tx, principal, "passkey.add", row.id, name=name, person=person.id)
            return row

        return await self._writer.write(unit)

    async def list_own(self, principal: Principal) -> list[PasskeyRow]:
        """The passkeys of the caller's person, newest first; none if the caller's key is nobody's."""
        return await self._database.read(lambda tx: _own(tx, principal))

    async def rename(self, principal: Principal, passkey_id: str, name: str) -> PasskeyRow:
        """Gives one of the caller's passkeys another name; raises `NotFound`."""

        def unit(tx: Tx) -> PasskeyRow:
            row = _one(tx, principal, passkey_id)
            rows.rename(tx, row.id, name)
            audit.record(tx, principal, "passkey.rename", row.id, name=name)
            return replace(row, name=name)

        return await self._writer.write(unit)

    async def remove(self, principal: Principal, passkey_id: str) -> PasskeyRow:
        """Removes one of the caller's passkeys; raises `NotFound`."""

        def unit(tx: Tx) -> PasskeyRow:
            row = _one(tx, principal, passkey_id)
            principal.need_presence(_DOING)
            rows.delete(tx, row.id)
            audit.record(tx, principal, "passkey.remove", row.id, name=row.name)
            return row

        return await self._writer.write(unit)

    async def remove_all(self, principal: Principal, person_id: str) -> int:
        """Removes every passkey of a person who has lost theirs; returns how many there were. For administrators
        without limits."""
        principal.need_no_limits("manage people")
        principal.need_presence("manage people")

        def unit(tx: Tx) -> int:
            if person_rows.find(tx, principal.org_id, person_id) is None:
                raise NotFound(f'There is no person "{person_id}".', code=Code.PERSON_UNKNOWN)
            found = rows.list_of_person(tx, person_id)
            for row in found:
                rows.delete(tx, row.id)
            audit.record(tx, principal, "person.remove-passkeys", person_id, passkeys=len(found))
            return len(found)

        return await self._writer.write(unit)

    async def begin_sign_in(self) -> PasskeyRequest:
        """Asks a browser for a passkey of whoever is there."""
        return PasskeyRequest(ceremony.request_options(self._place, await self._challenge(_SIGNS_IN)))

    async def sign_in(self, credential: Mapping[str, Any]) -> NewSession:
        """Starts the session of the person whose passkey has answered; raises `Forbidden`."""
        challenge = await self._take(credential, _SIGNS_IN)
        credential_id = credential.get("id")
        row = None
        if isinstance(credential_id, str):
            row = await self._database.read(lambda tx: rows.find(tx, credential_id))
        if row is None:
            raise ceremony.refused("this server knows no such passkey; it may have been removed")
        _check_owner(credential, row)
        count = await ceremony.check_use(self._place, credential, challenge, row)

        def unit(tx: Tx) -> NewSession:
            person = person_rows.find(tx, row.org_id, row.person_id)
            home = None if person is None else key_rows.find(tx, row.org_id, person.key_id)
            if home is None or not is_good(home):
                raise ceremony.refused("its person is deactivated")
            now = clock.now_ms()
            if not rows.note_use(tx, row, count=count, now=now):
                raise ceremony.refused("it was used or removed meanwhile; try again")
            person_rows.join(tx, home.id, now)
            audit.record(tx, principal_of(home), "passkey.use", row.id)
            return start_session(tx, row.org_id, home.id, by_passkey=True)

        return await self._writer.write(unit)

    async def _challenge(self, purpose: str) -> str:
        challenge, now = ceremony.encode(secrets.token_bytes(32)), clock.now_ms()
        hashes = {"hash": ids.secret_hash(challenge), "browser_hash": ids.secret_hash(purpose)}
        await self._writer.write(lambda tx: attempts.begin(tx, **hashes, now=now, keep_after=now - 600_000))
        return challenge

    async def _take(self, credential: Mapping[str, Any], purpose: str) -> str:
        challenge = ceremony.challenge_of(credential)
        found = await self._writer.write(lambda tx: attempts.take(tx, ids.secret_hash(challenge)))
        if found is None or found[0] != ids.secret_hash(purpose):
            raise ceremony.refused("it answers nothing that this server has asked, or was used before; try again")
        if clock.now_ms() - found[1] > ceremony.ANSWER_MS:
            raise ceremony.refused("it came too late; try again")
        return challenge


def need_passkey(tx: Tx, principal: Principal, doing: str) -> None:
    """Raises `Forbidden` if the caller's person has passkeys, and has not just signed in with one; `doing` completes
    "to …"."""
    key = key_rows.find(tx, principal.org_id, principal.key_id)
    if key is None or key.person_id is None or not rows.has_any(tx, key.person_id):
        return
    if not (principal.is_session and principal.is_fresh):
        raise Forbidden(
            f"You have a passkey: to {doing}, sign in with it in the browser, and do this within ten minutes.",
            code=Code.PASSKEY_NEEDED,
        )


def _adds(person_id: str) -> str:
    return f"passkey of {person_id}"


def _check_owner(credential: Mapping[str, Any], row: PasskeyRow) -> None:
    """A passkey says whose it is; it must be the person who has added it."""
    try:
        told = ceremony.decode(credential["response"]["userHandle"])
    except (KeyError, TypeError, ValueError) as error:
        raise ceremony.refused("it does not say whose it is") from error
    if told != row.person_id.encode():
        raise ceremony.refused("it is another person's")


def _person(tx: Tx, principal: Principal) -> PersonRow:
    key = key_rows.find(tx, principal.org_id, principal.key_id)
    person = None if key is None or key.person_id is None else person_rows.find(tx, key.org_id, key.person_id)
    if person is None:
        raise Forbidden("Only people have passkeys, and this key is nobody's: sign in as a person.")
    return person


def _own(tx: Tx, principal: Principal) -> list[PasskeyRow]:
    key = key_rows.find(tx, principal.org_id, principal.key_id)
    return [] if key is None or key.person_id is None else rows.list_of_person(tx, key.person_id)


def _one(tx: Tx, principal: Principal, passkey_id: str) -> PasskeyRow:
    found = next((row for row in _own(tx, principal) if row.id == passkey_id), None)
    if found is None:
        raise NotFound(f'You have no passkey "{passkey_id}".', code=Code.PASSKEY_UNKNOWN)
    return found
