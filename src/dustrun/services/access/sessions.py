"""Browser sessions: a cookie that stands for an API key, so that the key itself is not kept in a browser.

A session ends twelve hours after its last request, seven days after its start, and with its key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from dustrun import clock, ids
from dustrun.errors import Code, NotFound, Unauthenticated
from dustrun.listeners import Listeners
from dustrun.records import dataclass
from dustrun.services.access import audit
from dustrun.services.access.api_keys import Keys, is_good, principal_of
from dustrun.services.access.principal import Principal
from dustrun.services.access.rate_limits import Excess
from dustrun.storage.access import keys as key_rows
from dustrun.storage.access import organizations, passkeys, people
from dustrun.storage.access import sessions as rows
from dustrun.storage.access.keys import KeyRow
from dustrun.storage.access.people import SessionSeen
from dustrun.storage.access.sessions import SessionRow
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer

IDLE_MS: Final = 12 * 3_600_000
LIFE_MS: Final = 7 * 86_400_000
LINK_MS: Final = 10 * 60_000
FRESH_MS: Final = 10 * 60_000
_SEEN_EVERY_MS: Final = 60_000
_LOOK: Final = 500
_WRONG_LINK = "The sign-in link is not valid: it was used, or has expired. Ask for a new one."


@dataclass(frozen=True, slots=True)
class NewSession:
    """A session that begins. `id` goes into a cookie that scripts cannot read, `csrf_token` into one that they can;
    `ends_at` is when it ends at the latest."""

    id: str
    csrf_token: str
    key: KeyRow
    ends_at: int


@dataclass(frozen=True, slots=True)
class Session:
    """A session of a request: whose it is, and the hash of the token that a write must send."""

    principal: Principal
    csrf_hash: str
    ends_at: int


@dataclass(frozen=True, slots=True)
class NewLink:
    """A link that signs in once."""

    token: str
    expires_at: int


@dataclass(frozen=True, slots=True)
class OpenSession:
    """A session that has not ended. `current`: whether the caller's request came with it."""

    id: str
    key_id: str
    created_at: int
    seen_at: int
    current: bool


class Sessions:
    """Use cases of browser sessions."""

    def __init__(self, database: Database, writer: Writer, keys: Keys) -> None:
        self._database = database
        self._writer = writer
        self._keys = keys
        self._name: str | None = None
        self.on_ended: Listeners[[str]] = Listeners()
        """Called with the hash of each session that has ended before its time."""
        self.on_ended_here: Listeners[[str]] = Listeners()
        """In a shared store: called with the hash of each session that was ended by this process."""
        self._met: set[str] = set()

    async def name(self) -> str:
        """The name of this installation's cookies: a browser sends cookies to every port of a host."""
        if self._name is None:
            every = await self._database.read(organizations.list_all)
            self._name = f"dustrun_{hashlib.sha256(min(one.id for one in every).encode()).hexdigest()[:8]}"
        return self._name

    async def start(self, secret: str) -> NewSession | None:
        """Starts a session of a key; None if the key is not valid."""
        principal = await self._keys.find(secret)
        if principal is None:
            return None
        return await self._writer.write(lambda tx: start_session(tx, principal.org_id, principal.key_id))

    async def find(self, session_id: str) -> Session | None:
        """The session behind a cookie; None if it has ended."""
        hash, now = ids.secret_hash(session_id), clock.now_ms()

        def query(tx: Tx) -> tuple[SessionRow, KeyRow, bool] | None:
            row = rows.find(tx, hash)
            key = key_rows.find(tx, row.org_id, row.key_id) if row is not None else None
            return (row, key, _is_fresh(tx, row, key, now)) if row is not None and key is not None else None

        found = await self._database.read(query)
        if found is None or not is_good(found[1]) or _has_ended(found[0], now):
            return None
        row, key, is_fresh = found
        if now - row.seen_at > _SEEN_EVERY_MS:
            await self._writer.write(lambda tx: rows.see(tx, hash, now))
        if self.on_ended_here:
            self._met.add(hash)
        principal = replace(principal_of(key), is_session=True, session=hash, is_fresh=is_fresh)
        return Session(principal, row.csrf_hash, _end_of(row, key))

    async def end(self, session_id: str) -> None:
        """Ends a session; idempotent."""
        hash = ids.secret_hash(session_id)
        await self._writer.write(lambda tx: rows.delete(tx, hash))
        self.tell_ended([hash])

    async def list_own(self, principal: Principal) -> list[OpenSession]:
        """The open sessions of the caller's person, or of its key if that is nobody's; of those that stand for another
        key, the ones that may do no more than the caller."""
        found = await self._database.read(lambda tx: list_open(tx, _own_keys(tx, principal)))
        return [seen_by(principal, row) for row in found]

    async def end_own(self, principal: Principal, session_id: str) -> OpenSession:
        """Ends one of the sessions that `list_own` lists; raises `NotFound`."""

        def unit(tx: Tx) -> SessionSeen:
            row = end_one(tx, list_open(tx, _own_keys(tx, principal)), session_id)
            audit.record(tx, principal, "session.end", row.key_id, session=session_id)
            return row

        ended = await self._writer.write(unit)
        self.tell_ended([ended.hash])
        return seen_by(principal, ended)

    def tell_ended(self, hashes: Sequence[str]) -> None:
        """Ends the streams of sessions that this process has ended, here and on other servers."""
        for hash in hashes:
            self.hear_ended(hash)
            self.on_ended_here(hash)

    def hear_ended(self, hash: str) -> None:
        """A session has ended, maybe on another server."""
        self._met.discard(hash)
        self.on_ended(hash)

    async def look_for_ended(self) -> None:
        """Ends the streams of sessions that another server has ended, whether or not it told."""
        met = sorted(self._met)
        for start in range(0, len(met), _LOOK):
            some = met[start : start + _LOOK]
            there = await self._database.read(lambda tx, some=some: rows.list_there(tx, some))  # type: ignore[misc]
            for hash in set(some) - there:
                self.hear_ended(hash)

    async def make_link(self, principal: Principal) -> NewLink:
        """A link that signs in as the caller's key, once, within ten minutes."""
        principal.need_bearer("make a link that signs in")
        token, expires_at = ids.new_secret("signin"), clock.now_ms() + LINK_MS

        def unit(tx: Tx) -> None:
            hash = ids.secret_hash(token)
            rows.add_link(tx, hash=hash, key_id=principal.key_id, org_id=principal.org_id, expires_at=expires_at)
            audit.record(tx, principal, "session.link", principal.key_id)

        await self._writer.write(unit)
        return NewLink(token, expires_at)

    async def redeem(self, token: str) -> NewSession:
        """Starts the session of a link, which it uses up; raises `Unauthenticated`."""

        def unit(tx: Tx) -> NewSession | None:
            found = rows.take_link(tx, ids.secret_hash(token))
            if found is None or found[2] <= clock.now_ms():
                return None
            key = key_rows.find(tx, found[1], found[0])
            if key is None or not is_good(key):
                return None
            people.join(tx, key.id, clock.now_ms())
            return start_session(tx, found[1], found[0])

        started = await self._writer.write(unit)
        if started is None:
            raise Unauthenticated(_WRONG_LINK)
        return started


def public_id(hash: str) -> str:
    """The public id of a session. It opens nothing: a request shows the secret whose hash this is a part of."""
    return f"web_{hash[:26]}"


def list_open(tx: Tx, key_ids: set[str]) -> list[SessionSeen]:
    """The sessions of some keys that have not ended, newest first."""
    now = clock.now_ms()
    return people.list_sessions(tx, key_ids, seen_after=now - IDLE_MS, created_after=now - LIFE_MS)


def end_one(tx: Tx, among: Sequence[SessionSeen], session_id: str) -> SessionSeen:
    """Ends the session of this name among some; raises `NotFound`."""
    found = next((row for row in among if public_id(row.hash) == session_id), None)
    if found is None:
        raise NotFound(f'There is no open session "{session_id}".', code=Code.SESSION_UNKNOWN)
    rows.delete(tx, found.hash)
    return found


def seen_by(principal: Principal, row: SessionSeen) -> OpenSession:
    """A session as a caller is shown it."""
    return OpenSession(public_id(row.hash), row.key_id, row.created_at, row.seen_at, row.hash == principal.session)


def _own_keys(tx: Tx, principal: Principal) -> set[str]:
    own = key_rows.find(tx, principal.org_id, principal.key_id)
    if own is None or own.person_id is None:
        return {principal.key_id}
    every = key_rows.list_of_person(tx, principal.org_id, own.person_id)
    return {row.id for row in every if is_good(row) and (row.id == own.id or principal_of(row).is_within(principal))}


def _is_fresh(tx: Tx, row: SessionRow, key: KeyRow, now: int) -> bool:
    """Whether a session is a person's who has just signed in: with a passkey, if they have any."""
    if key.person_id is None or now - row.created_at > FRESH_MS:
        return False
    return bool(row.by_passkey) or not passkeys.has_any(tx, key.person_id)


def start_session(tx: Tx, org_id: str, key_id: str, *, by_passkey: bool = False) -> NewSession:
    """Starts a session of a key, which must be good, in the caller's transaction."""
    now, key = clock.now_ms(), key_rows.find(tx, org_id, key_id)
    assert key is not None, "keys are never deleted"
    rows.prune(tx, seen_before=now - IDLE_MS, created_before=now - LIFE_MS, now=now)
    session_id, csrf_token = ids.new_secret("ses"), ids.new_secret("csrf")
    row = SessionRow(
        ids.secret_hash(session_id), ids.secret_hash(csrf_token), key_id, org_id, now, now, int(by_passkey)
    )
    rows.insert(tx, row)
    audit.record(tx, principal_of(key), "session.start", key_id)
    return NewSession(session_id, csrf_token, key, _end_of(row, key))


def _has_ended(row: SessionRow, now: int) -> bool:
    return now - row.seen_at > IDLE_MS or now - row.created_at > LIFE_MS


def _end_of(row: SessionRow, key: KeyRow) -> int:
    ends_at = row.created_at + LIFE_MS
    return ends_at if key.expires_at is None else min(ends_at, key.expires_at)


# Sessions of another protocol: a bounded number, each bound to one key, and ended with it. They are in memory alone: a
# restart ends them, and none stands for a right.


MOST_SESSIONS: Final = 1_000
MOST_OF_KEY: Final = 20


@dataclass(slots=True)
class ProtocolSession:
    """One session. `carrier`: what speaks the protocol; `end`: ends it, once."""

    id: str
    key_id: str
    carrier: Any
    end: Callable[[], object]
    used_at_s: float


class ProtocolSessions:
    """The sessions that are open."""

    def __init__(self, most: int = MOST_SESSIONS, most_of_key: int = MOST_OF_KEY) -> None:
        self._most = most
        self._most_of_key = most_of_key
        self._open: dict[str, ProtocolSession] = {}

    def __len__(self) -> int:
        return len(self._open)

    def add(self, session_id: str, key_id: str, carrier: Any, end: Callable[[], object]) -> None:
        """Adds one. A key that has many loses the one that it used longest ago; raises `TooMany` if others have all."""
        own = [one for one in self._open.values() if one.key_id == key_id]
        if len(own) >= self._most_of_key:
            self._end(min(own, key=lambda one: one.used_at_s))
        if len(self._open) >= self._most:
            raise Excess.SESSIONS.refusal(60)
        self._open[session_id] = ProtocolSession(session_id, key_id, carrier, end, clock.monotonic_s())

    def find(self, session_id: str, key_id: str) -> ProtocolSession | None:
        """The session, for the key that began it and nobody else."""
        found = self._open.get(session_id)
        if found is None or found.key_id != key_id:
            return None
        found.used_at_s = clock.monotonic_s()
        return found

    def forget(self, session_id: str) -> None:
        """A session has ended."""
        self._open.pop(session_id, None)

    def end_key(self, key_id: str) -> None:
        """Ends the sessions of a key that was revoked."""
        for one in [one for one in self._open.values() if one.key_id == key_id]:
            self._end(one)

    def end_all(self) -> None:
        """Ends all."""
        for one in list(self._open.values()):
            self._end(one)

    def _end(self, session: ProtocolSession) -> None:
        self.forget(session.id)
        session.end()
