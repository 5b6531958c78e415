"""Asks the provider again and again whether people are still its own, and in which groups."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Sequence
from typing import Final

from dustrun import clock, log
from dustrun.errors import DustrunError, Forbidden, Temporary
from dustrun.services.access.api_keys import Keys
from dustrun.services.access.oidc import rights
from dustrun.services.access.oidc.admission import AdmittedPerson
from dustrun.services.access.oidc.provider import Provider
from dustrun.services.access.oidc.sign_in import KIND, SignIns
from dustrun.services.access.sessions import Sessions
from dustrun.storage.access import directory, people
from dustrun.storage.access import identities as rows
from dustrun.storage.access import keys as key_rows
from dustrun.storage.access.identities import IdentityRow
from dustrun.storage.access.keys import KeyRow
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer
from dustrun.storage.secrets.vault import Vault

_logger = log.get(__name__)
_LOOK_S: Final = 5.0
_AT_ONCE: Final = 16
_MOST: Final = 1_000
_SILENT: Final = Temporary("The provider answers for nobody.")


class Checks:
    """Checks everybody whom the provider has signed in, by the refresh token that it gave, and ends what they can do
    here once it takes that no longer."""

    def __init__(
        self, sign_ins: SignIns, database: Database, writer: Writer, vault: Vault, keys: Keys, sessions: Sessions
    ) -> None:
        self._provider = sign_ins.provider
        self._database = database
        self._writer = writer
        self._vault = vault
        self._keys = keys
        self._sessions = sessions
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()

    async def start(self) -> None:
        """Begins; does nothing without a provider. In a shared store one process at a time may: a refresh token may
        work once."""
        if self._provider is not None:
            self._stopping.clear()
            self._task = asyncio.get_running_loop().create_task(self._go_on(self._provider))

    async def stop(self) -> None:
        """Ends, after what was asked is answered and stored: the tokens from before may work no longer."""
        self._stopping.set()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def _go_on(self, provider: Provider) -> None:
        pause_s = min(_LOOK_S, provider.settings.sign_in_check_s / 2)
        while not self._stopping.is_set():
            try:
                await self.look(provider)
            except Exception as error:
                _logger.failed("the provider's people could not be checked", error)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause_s)

    async def look(self, provider: Provider) -> None:
        """Checks everybody who is due, some at a time. A provider that answers for nobody is not asked about more."""
        before = clock.now_ms() - round(provider.settings.sign_in_check_s * 1000)
        due = await self._database.read(lambda tx: rows.list_due(tx, provider.url, before=before, most=_MOST))
        gate, answers = asyncio.Semaphore(_AT_ONCE), Counter[bool]()

        async def check(row: IdentityRow) -> None:
            async with gate:
                if self._stopping.is_set():
                    return
                try:
                    is_silent = answers[False] >= _AT_ONCE and not answers[True]
                    error = _SILENT if is_silent else await self._check(provider, row)
                    answers[error is None] += 1
                    if error is not None:
                        await self._was_silent(provider, row, error)
                except Exception as failure:
                    _logger.error("a person could not be checked", person=row.person_id, exc_info=failure)

        await asyncio.gather(*map(check, due))

    async def _check(self, provider: Provider, row: IdentityRow) -> DustrunError | None:
        """Asks the provider about one person, and does as it says; what was wrong if it says nothing."""
        assert row.sealed is not None
        try:
            token = (await self._vault.read(self._database, row.org_id, KIND, row.id, row.sealed)).decode()
            grant = await provider.renew(token, row.subject)
        except DustrunError as error:
            return error
        if grant is None:
            await self._end(row, "the provider takes the refresh token no longer")
            return None
        renewed = await self._store(row, grant.refresh_token or token)  # before anything else: the old one may be gone
        if renewed is None:
            return None
        try:
            by_directory = await self._database.read(lambda tx: directory.decides(tx, row.person_id))
            await self._give(renewed, provider.admission.admit(grant.claims, groups_decide=not by_directory))
        except Forbidden as error:
            await self._end(renewed, error.message)
        return None

    async def _store(self, row: IdentityRow, token: str) -> IdentityRow | None:
        """Stores what to ask with the next time; None if they have signed in anew meanwhile, or been let go."""
        await self._vault.prepare()

        def unit(tx: Tx) -> IdentityRow | None:
            if not _is_same(tx, row):
                return None
            sealed = self._vault.seal(tx, row.org_id, KIND, row.id, token.encode())
            rows.let_in(tx, row.id, sealed=sealed, now=clock.now_ms())
            return rows.get(tx, row.id)

        return await self._writer.write(unit)

    async def _give(self, row: IdentityRow, admitted: AdmittedPerson) -> None:
        def unit(tx: Tx) -> list[KeyRow]:
            return rights.renew(tx, row, admitted.permissions) if _is_same(tx, row) else []

        await self._writer.write(unit, self._keys.forget_all)

    async def _end(self, row: IdentityRow, why: str) -> None:
        _logger.info("the provider no longer lets a person in", person=row.person_id, why=why)

        def unit(tx: Tx) -> list[KeyRow]:
            return rights.end(tx, row, why) if _is_same(tx, row) else []

        await self._writer.write(unit, self._keys.forget_all)

    async def _was_silent(self, provider: Provider, row: IdentityRow, error: DustrunError) -> None:
        """Signs a person out about whom the provider has said nothing for too long; their keys stay."""
        _logger.warning("the provider says nothing of a person", person=row.person_id, error=error.message)
        if clock.now_ms() - row.checked_at <= provider.settings.sign_in_silence_s * 1000:
            return

        def unit(tx: Tx) -> Sequence[str]:
            own = key_rows.list_of_person(tx, row.org_id, row.person_id)
            return people.end_sessions(tx, [key.id for key in own]) if _is_same(tx, row) else []

        self._sessions.tell_ended(await self._writer.write(unit))


def _is_same(tx: Tx, row: IdentityRow) -> bool:
    """Whether nothing has happened to an identity since it was read: newer sign-ins count more than older answers."""
    now = rows.get(tx, row.id)
    return now is not None and now.sealed == row.sealed
