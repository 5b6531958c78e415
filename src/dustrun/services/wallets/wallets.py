"""Creates, imports, exports, renames and archives wallets. A key leaves only in an export, encrypted under the caller's
password and audited.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, TypeVar

from dustrun import clock, ids
from dustrun.core.money.policy.document import FEE_TIMES_USUAL, Outflow, WalletPolicy
from dustrun.core.values import exact_json
from dustrun.errors import Code, Conflict, Invalid, NotFound, Problem
from dustrun.records import dataclass
from dustrun.sdk.chain import WalletView
from dustrun.services.access import audit, hands, idempotency
from dustrun.services.access.paging import Page, Paging, page_of
from dustrun.services.access.principal import Principal
from dustrun.services.wallets.signers import Signers
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer
from dustrun.storage.money import wallets as rows
from dustrun.storage.money.wallets import ENV, LOCAL, REMOTE, WATCH, PolicyRow, WalletRow
from dustrun.wallets import keystore
from dustrun.wallets.keys import DEFAULT_PATH, check_path, derive_key, key_of_number, read_key
from dustrun.wallets.keystore import Keystore
from dustrun.wallets.secp256k1 import SecretKey
from dustrun.wallets.signer import Signer

_LISTED: Final = 20


@dataclass(frozen=True, slots=True)
class NewWallet:
    """The name of a new wallet, and whether it becomes the default."""

    name: str
    description: str | None = None
    is_default: bool = False


@dataclass(frozen=True, slots=True)
class ExportedKey:
    """A wallet's key under the caller's password."""

    wallet: WalletRow
    keystore: dict[str, Any]


class Wallets:
    """The use cases of wallets."""

    def __init__(self, database: Database, writer: Writer, signers: Signers) -> None:
        self._database = database
        self._writer = writer
        self._signers = signers

    def signer_of(self, wallet: WalletRow) -> Signer:
        """The signer of a wallet; see `Signers.signer_of`."""
        return self._signers.signer_of(wallet)

    async def find_view(self, org_id: str, wallet_id: str | None) -> WalletView | None:
        """A wallet that can sign, as actions see it; without an id the organisation's default."""
        row = await self.find_signing(org_id, wallet_id)
        return None if row is None else _view(row)

    async def find_view_of_any(self, org_id: str, wallet_id: str) -> WalletView | None:
        """Any wallet, also an archived one, as actions see it."""
        row = await self._database.look_up(lambda tx: rows.find(tx, org_id, wallet_id))
        return None if row is None else _view(row)

    async def find_signing(self, org_id: str, wallet_id: str | None) -> WalletRow | None:
        """The wallet, or the default one, if it can sign."""

        def query(tx: Tx) -> WalletRow | None:
            return rows.find_default(tx, org_id) if wallet_id is None else rows.find(tx, org_id, wallet_id)

        row = await self._database.look_up(query)
        return row if row is not None and row.can_sign else None

    async def create(self, principal: Principal, new: NewWallet) -> WalletRow:
        """Creates a wallet with a new key."""
        principal.need_no_limits("make wallets")
        return await self._add_key(principal, new, _new_key(), "wallet.create")

    async def add_key(self, principal: Principal, new: NewWallet, read: Callable[[], SecretKey]) -> WalletRow:
        """Imports a key; `read` derives it off the event loop. Raises `Conflict` if a wallet already holds that key."""
        principal.need_no_limits("import wallets")
        return await self._add_key(principal, new, await self._signers.slowly(read), "wallet.import")

    async def _add_key(self, principal: Principal, new: NewWallet, key: SecretKey, action: str) -> WalletRow:
        row = _row(principal, new, LOCAL, key.address())
        await self._signers.prepare()

        def seal(tx: Tx) -> str:
            return self._signers.seal(tx, row.org_id, row.id, key, row.address)

        try:
            return await self._insert(principal, new, row, action, seal)
        finally:
            key.wipe()

    async def add_remote(self, principal: Principal, new: NewWallet, signer: str, address: str | None) -> WalletRow:
        """Creates a wallet whose key a remote signer holds; the signer must have the address, or exactly one."""
        principal.need_no_limits("make wallets")
        principal.need("wallet:admin")
        known = await self._signers.remote(principal.org_id, signer).addresses()
        if address is None and len(known) == 1:
            address = known[0]
        if address is None or address not in known:
            listed = ", ".join(known[:_LISTED]) or "none"
            raise _invalid("address", f'must be one that the signer "{signer}" has: {listed}')
        return await self._insert(principal, new, _row(principal, new, REMOTE, address, signer), "wallet.create")

    async def add_variable(self, principal: Principal, new: NewWallet, name: str) -> WalletRow:
        """Creates a wallet whose key is in an environment variable of the server; for development."""
        principal.need_no_limits("make wallets")
        principal.need("wallet:admin")
        key = self._signers.variable(principal.org_id, name)
        row = _row(principal, new, ENV, key.address(), name)
        key.wipe()
        return await self._insert(principal, new, row, "wallet.create")

    async def watch(self, principal: Principal, new: NewWallet, address: str) -> WalletRow:
        """Creates a watch-only wallet, which shows balances and signs nothing."""
        principal.need_no_limits("make wallets")
        if new.is_default:
            raise _invalid("isDefault", "must be false: a watch-only wallet signs nothing")
        return await self._insert(principal, new, _row(principal, new, WATCH, address), "wallet.create")

    async def _insert(
        self,
        principal: Principal,
        new: NewWallet,
        row: WalletRow,
        action: str,
        seal: Callable[[Tx], str] | None = None,
    ) -> WalletRow:
        def unit(tx: Tx) -> WalletRow:
            _check_free(tx, principal, row)
            rows.insert(tx, replace(row, sealed=seal(tx)) if seal is not None else row)
            rows.add_policy(tx, first_policy(row))
            had = rows.find_default(tx, row.org_id)
            if row.can_sign and (new.is_default or had is None):
                rows.make_default(tx, row.org_id, row.id, at_ms=row.created_at)
                hands.note(tx, principal, "setting", "default-wallet", is_new=had is None)
            audit.record(tx, principal, action, row.id, name=row.name, kind=row.kind, address=row.address)
            return get_wallet(tx, principal, row.id)

        return await idempotency.write(self._writer, unit, creates=("walletId", row.id))

    async def get(self, principal: Principal, wallet_id: str) -> WalletRow:
        """One wallet; raises `NotFound`, also if the key cannot reach it."""
        return await self._database.read(lambda tx: get_wallet(tx, principal, wallet_id))

    async def list_page(self, principal: Principal, paging: Paging, *, with_archived: bool) -> Page[WalletRow]:
        """The wallets that the key can reach, the default first, then newest first."""

        def query(tx: Tx) -> list[WalletRow]:
            if principal.wallet_ids is not None:
                named = sorted(principal.wallet_ids)
                found = rows.list_named(tx, principal.org_id, named, with_archived=with_archived)
                return found[paging.offset : paging.offset + paging.peek]
            return rows.list_page(
                tx, principal.org_id, with_archived=with_archived, limit=paging.peek, offset=paging.offset
            )

        return page_of(await self._database.read(query), paging)

    async def rename(
        self, principal: Principal, wallet_id: str, *, name: str | None, description: str | None
    ) -> WalletRow:
        """Changes name or description; None keeps a value."""

        def unit(tx: Tx) -> WalletRow:
            row = get_open(tx, principal, wallet_id)
            principal.need_every_workflow("change wallets, which other workflows use")
            wanted = (name or row.name, row.description if description is None else description)
            if wanted != (row.name, row.description):
                rows.change(tx, row.id, name=wanted[0], description=wanted[1], at_ms=clock.now_ms())
                audit.record(tx, principal, "wallet.rename", row.id, name=wanted[0])
            return get_wallet(tx, principal, wallet_id)

        return await idempotency.write(self._writer, unit)

    async def make_default(self, principal: Principal, wallet_id: str) -> WalletRow:
        """Makes it the wallet of nodes that name none; raises `Conflict` if it cannot sign."""
        principal.need_no_limits("choose the default wallet")

        def unit(tx: Tx) -> WalletRow:
            row = get_open(tx, principal, wallet_id)
            if not row.can_sign:
                message = f'The wallet "{name_of(principal, row)}" is watch-only; it cannot be the default.'
                raise Conflict(message, code=Code.WALLET_CANNOT_SIGN)
            if not row.is_default:
                had = rows.find_default(tx, row.org_id)
                rows.make_default(tx, row.org_id, row.id, at_ms=clock.now_ms())
                hands.note(tx, principal, "setting", "default-wallet", is_new=had is None)
                audit.record(tx, principal, "wallet.default", row.id)
            return get_wallet(tx, principal, wallet_id)

        return await idempotency.write(self._writer, unit)

    async def export(self, principal: Principal, wallet_id: str, password: str) -> ExportedKey:
        """Exports the key of a wallet that this server holds, as a keystore under the caller's password."""
        principal.need_bearer("export a wallet")
        row = await self.get(principal, wallet_id)
        principal.need_every_workflow("export a wallet, whose key then spends without any workflow")
        if row.kind != LOCAL:
            name = name_of(principal, row)
            message = f'The server does not hold the key of the wallet "{name}"; it cannot be exported.'
            raise Conflict(message, code=Code.WALLET_CANNOT_SIGN)
        key = await self._signers.unlock(row)
        try:
            made = await self._signers.slowly(lambda: keystore.encrypt(key, password, row.address))
        finally:
            key.wipe()

        def unit(tx: Tx) -> ExportedKey:
            audit.record(tx, principal, "wallet.export", row.id)
            return ExportedKey(row, made)

        return await idempotency.write(self._writer, unit)

    async def archive(self, principal: Principal, wallet_id: str, *, force: bool) -> WalletRow:
        """Archives a wallet. Raises `Conflict` for the default one, if it has open transactions, and, without `force`,
        if workflows name it."""

        def unit(tx: Tx) -> WalletRow:
            row = get_wallet(tx, principal, wallet_id)
            principal.need_every_workflow("archive wallets, which other workflows use")
            if row.archived_at is not None:
                return row
            _check_unused(tx, principal, row, force=force)
            rows.archive(tx, row.id, at_ms=clock.now_ms())
            audit.record(tx, principal, "wallet.archive", row.id, force=force)
            return get_wallet(tx, principal, wallet_id)

        return await idempotency.write(self._writer, unit, lambda row: self._signers.forget(row.id))


def _view(row: WalletRow) -> WalletView:
    return WalletView(row.id, row.name, row.address)


def _new_key() -> SecretKey:
    while True:
        try:
            return key_of_number(int.from_bytes(ids.new_entropy(32), "big"))
        except ValueError:  # one number in 2**128 is none
            continue


def _row(principal: Principal, new: NewWallet, kind: str, address: str, signer: str | None = None) -> WalletRow:
    now = clock.now_ms()
    return WalletRow(
        id=ids.new_id("wal"),
        org_id=principal.org_id,
        name=new.name,
        description=new.description,
        kind=kind,
        address=address,
        held_address=None if kind == WATCH else address,
        is_default=0,
        signer=signer,
        sealed=None,
        created_by=principal.key_id,
        created_at=now,
        updated_at=now,
    )


def first_policy(wallet: WalletRow) -> PolicyRow:
    """The policy of a new wallet: it denies everything, and has the defaults of new policies for what is added."""
    first = WalletPolicy(outflow=Outflow(), fee_above_usual=FEE_TIMES_USUAL)
    return PolicyRow(
        wallet_id=wallet.id,
        version=1,
        document=exact_json.dumps_text(first.model_dump(mode="json", by_alias=True)),
        is_looser=0,
        effective_at=wallet.created_at,
        created_by=wallet.created_by,
        created_at=wallet.created_at,
    )


def get_wallet(tx: Tx, principal: Principal, wallet_id: str) -> WalletRow:
    """A wallet that the key can reach, also an archived one; raises `NotFound`."""
    row = rows.find(tx, principal.org_id, wallet_id) if principal.may_use_wallet(wallet_id) else None
    if row is None:
        raise NotFound(f'There is no wallet "{wallet_id}".', code=Code.WALLET_UNKNOWN)
    return row


def name_of(principal: Principal, row: WalletRow) -> str:
    """The name of a wallet in a refusal: its own if the key may read that, else its id."""
    return row.name if principal.may("wallet:read") else row.id


def get_open(tx: Tx, principal: Principal, wallet_id: str) -> WalletRow:
    """A wallet that the key can reach; raises `NotFound`, and `Conflict` for an archived one."""
    row = get_wallet(tx, principal, wallet_id)
    if row.archived_at is not None:
        raise Conflict(f'The wallet "{name_of(principal, row)}" is archived.', code=Code.WALLET_CANNOT_SIGN)
    return row


def _check_free(tx: Tx, principal: Principal, row: WalletRow) -> None:
    same = rows.find_same(tx, row.org_id, row.address)
    if same is not None:
        found = {"field": "address", "message": f'the wallet "{name_of(principal, same)}" has it', "id": same.id}
        raise Conflict("A wallet already has that address.", code=Code.WALLET_ADDRESS_TAKEN, details=[found])
    if row.held_address is not None and rows.find_holder(tx, row.held_address) is not None:
        raise Conflict(
            "A wallet of another organisation of this server signs with that key. Two writers of one key would take "
            "each other's nonces; use another key.",
            code=Code.WALLET_ADDRESS_TAKEN,
            details=[Problem("address", "is held elsewhere on this server")],
        )


def _check_unused(tx: Tx, principal: Principal, row: WalletRow, *, force: bool) -> None:
    shown = name_of(principal, row)
    if row.is_default:
        message = f'The wallet "{shown}" is the default; make another one the default first.'
        raise Conflict(message, code=Code.WALLET_IN_USE)
    still = rows.list_open(tx, row.id, limit=_LISTED)
    if still:
        details = [{"field": "transactions", "message": "is not over", "id": found} for found in still]
        message = f'The wallet "{shown}" has open transactions or signatures; wait for them or cancel them.'
        raise Conflict(message, code=Code.WALLET_IN_USE, details=details)
    users = [] if force else rows.list_users(tx, row.org_id, row.id, limit=_LISTED)
    if users:
        told = [user for user in users if principal.may_read_workflow(user[0])]
        details = [{"field": "workflows", "message": f'"{name}" names it', "id": found} for found, name in told]
        message = f'Workflows name the wallet "{shown}"; change them, or send force=true.'
        raise Conflict(message, code=Code.WALLET_IN_USE, details=details)


def _invalid(field: str, message: str) -> Invalid:
    return Invalid("The request body is not valid.", details=[Problem(field, message)])


# Reads keys that callers import, off the event loop; no error repeats any part of a key.


T = TypeVar("T")
Read = Callable[[], SecretKey]


def of_private_key(text: str) -> Read:
    """Reads a key in hexadecimal; `Invalid` names the field `privateKey`."""
    return lambda: _named("privateKey", lambda: read_key(text))


def of_mnemonic(words: str, passphrase: str, path: str | None) -> Read:
    """Derives a key of a mnemonic; `Invalid` names `mnemonic`, with the position of a bad word, or `path`."""
    path = _named("path", lambda: check_path(path or DEFAULT_PATH))
    return lambda: _named("mnemonic", lambda: derive_key(words, passphrase, path))


def of_keystore(document: Mapping[str, Any], password: str) -> Read:
    """Opens a keystore; its cost in memory and time is checked first."""
    keystore = Keystore(document)
    return lambda: keystore.decrypt(password.encode())


def _named(field: str, read: Callable[[], T]) -> T:
    try:
        return read()
    except ValueError as error:
        raise Invalid("The key cannot be imported.", details=[Problem(field, str(error))]) from None
