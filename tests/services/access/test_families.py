"""Four eyes are two people: in generated families of keys, people and service accounts, what one of them asks is never
approved by the same human, whichever keys are used; and it is by another one."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from dustrun import clock
from dustrun.errors import Forbidden
from dustrun.services.access.api_keys import principal_of
from dustrun.services.access.people import Given as GivenPerson
from dustrun.services.access.service_accounts import Given as GivenAccount
from dustrun.services.access.service_accounts import Limits
from dustrun.services.runs.approvals import check_other_hand
from dustrun.storage.access import keys as key_rows
from dustrun.storage.access.keys import KeyRow
from dustrun.storage.db.statement import Tx
from dustrun.storage.runs.approvals import ApprovalRow
from testkit.composition import Composition, composed

_DECIDES = ["approval:decide", "key:write", "run:read"]
_PAIRS = 40


@pytest.fixture
async def server(tmp_path: Path, store_url: str) -> AsyncIterator[Composition]:
    async with composed(tmp_path, database_url=store_url) as composition:
        yield composition


class Family:
    """Keys that are made, given and replaced at random by the services themselves, and which humans know each of them:
    whoever has seen its secret or answers for it. Every human was invited once, and every key is given to whose it
    is."""

    def __init__(self, server: Composition, org_id: str, root: KeyRow, pick: random.Random, number: int) -> None:
        self._access = server.parts.access
        self._root, self._org_id, self._pick = principal_of(root), org_id, pick
        self._name = f"f{number}"
        self._own: dict[str, set[str]] = {}
        self._maker_of: dict[str, str] = {}
        self.of_account: set[str] = set()
        self._people: list[str] = []
        self._accounts: dict[str, str] = {}
        self._read = server.parts.database.read

    async def grow(self) -> None:
        """Makes people, then keys of people, of nobody and of accounts."""
        for number in range(self._pick.randint(2, 3)):
            await self._invite(number)
        steps = (self._own_key, self._given_key, self._account_key, self._account_key, self._rotated, self._owned_anew)
        for _ in range(self._pick.randint(4, 8)):
            await self._pick.choice(steps)()

    async def _invite(self, number: int) -> None:
        rights = ["admin"] if self._pick.random() < 0.4 else _DECIDES
        email = f"{self._name}-{number}@example.com"
        made = await self._access.people.invite(
            self._root, name="p", email=email, permissions=rights, workflow_ids=None, wallet_ids=None
        )
        person = made.person.row.id
        self._people.append(person)
        self._own[made.person.home.id] = {person}

    async def _row(self, key_id: str) -> KeyRow:
        row = await self._read(lambda tx: key_rows.find(tx, self._org_id, key_id))
        assert row is not None
        return row

    async def _maker(self) -> KeyRow:
        return await self._row(self._pick.choice(sorted(self._own)))

    async def _own_key(self) -> None:
        """A key makes another one, of the same person or account."""
        maker = await self._maker()
        if not all(map(principal_of(maker).may, ["key:write", "run:read"])):
            return
        made = await self._access.keys.create(
            principal_of(maker), name="k", permissions=["run:read"], description=None, expires_at=None
        )
        account = made.row.service_account_id
        self._add(made.row, set() if account is None else {self._accounts[account]}, maker.id)

    async def _given_key(self) -> None:
        """A key of nobody makes others; then all are given to their person."""
        person = self._pick.choice(self._people)
        first = await self._access.keys.create(
            self._root, name="k", permissions=_DECIDES, description=None, expires_at=None
        )
        second = await self._access.keys.create(
            principal_of(first.row), name="k", permissions=_DECIDES, description=None, expires_at=None
        )
        await self._access.people.change(self._root, person, GivenPerson(key_ids=[first.row.id]))
        for one in (first, second):
            self._add(one.row, {person})

    async def _account_key(self) -> None:
        """Somebody who may makes a key of an account, maybe with a key of another account."""
        owner = self._pick.choice(self._people)
        given = GivenAccount(name=f"{self._name}-{len(self._accounts)}", permissions=_DECIDES, owner_id=owner)
        account = (await self._access.service_accounts.create(self._root, given, Limits())).row.id
        self._accounts[account] = owner
        maker = await self._maker()
        if not all(map(principal_of(maker).may, _DECIDES)):
            return
        made = await self._access.service_accounts.make_key(
            principal_of(maker), account, name="k", description=None, expires_at=None
        )
        self._add(made.row, {owner}, maker.id)

    async def _rotated(self) -> None:
        """Somebody replaces a key of an account, and knows the new one alone with who answers for it."""
        maker = await self._maker()
        if not self.of_account or not all(map(principal_of(maker).may, _DECIDES)):
            return
        old = self._pick.choice(sorted(self.of_account))
        made = await self._access.service_accounts.rotate(principal_of(maker), old, grace_ms=60_000)
        account = (await self._row(old)).service_account_id or ""
        self._add(made.row, {self._accounts[account]}, maker.id)

    async def _owned_anew(self) -> None:
        """Another human answers for an account; what its keys do is theirs too."""
        if not self._accounts:
            return
        account, owner = self._pick.choice(sorted(self._accounts)), self._pick.choice(self._people)
        await self._access.service_accounts.change(self._root, account, GivenAccount(owner_id=owner))
        self._accounts[account] = owner
        for key_id in sorted(self.of_account):
            if (await self._row(key_id)).service_account_id == account:
                self._own[key_id].add(owner)
        changed_at = clock.now_ms()
        while clock.now_ms() == changed_at:  # a key of the same moment could be of before
            await asyncio.sleep(0)

    def known(self, key_id: str) -> set[str]:
        """The humans who may have the secret of a key, or that of one above it."""
        maker = self._maker_of.get(key_id)
        return self._own[key_id] | (self.known(maker) if maker is not None else set())

    def _add(self, row: KeyRow, own: set[str], maker: str | None = None) -> None:
        self._own[row.id] = own
        if maker is not None:
            self._maker_of[row.id] = maker
        if row.service_account_id is not None:
            self.of_account.add(row.id)

    def check(self, tx: Tx) -> list[str]:
        """What is decided otherwise than it should be, of some pairs of who asks and who approves."""
        pairs = [*itertools.product(sorted(self._own), repeat=2)]
        wrong = []
        for asks, approves in self._pick.sample(pairs, min(_PAIRS, len(pairs))):
            is_other = approves not in self.of_account and not self.known(asks) & self.known(approves)
            if self._may(tx, asks, approves) != is_other:
                wrong.append(f"{asks} {self.known(asks)} / {approves} {self.known(approves)}: {is_other}")
        return wrong

    def _may(self, tx: Tx, asks: str, approves: str) -> bool:
        key = key_rows.find(tx, self._org_id, approves)
        assert key is not None
        try:
            check_other_hand(tx, principal_of(key), question(self._org_id, asks))
        except Forbidden:
            return False
        return True


def question(org_id: str, barred_key: str) -> ApprovalRow:
    """What a run that a key has started asks about a spend."""
    return ApprovalRow(
        id="apr_1", org_id=org_id, run_pk=1, run_id="run_1", workflow_id=None, workflow_name="", path="pay",
        message="Pay?", approvers="[]", mode="live", status="pending", created_at=0, expires_at=1,
        barred_key=barred_key, binding="b",
    )  # fmt: skip


@pytest.mark.parametrize("families", [12, pytest.param(1_000, marks=pytest.mark.long)])
async def test_nobody_approves_what_they_ask_themselves(server: Composition, families: int) -> None:
    (org,) = [row[0] for row in await server.rows(sa.text("SELECT id FROM organizations"))]
    (root_id,) = [row[0] for row in await server.rows(sa.text("SELECT id FROM api_keys WHERE name = 'owner'"))]
    root = await server.parts.database.read(lambda tx: key_rows.find(tx, org, root_id))
    assert root is not None
    pick = random.Random(33)
    wrong: list[str] = []
    for number in range(families):
        family = Family(server, org, root, pick, number)
        await family.grow()
        wrong += await server.parts.database.read(family.check)
    assert wrong == []
