"""`/v1/wallets`: wallets, their policies, balances and usage of limits."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from pydantic import Field

from dustrun.errors import Code, Invalid, Problem
from dustrun.operations.declaration.answers import PageAnswer, page_shape
from dustrun.operations.declaration.fields import Paged, moment_ms
from dustrun.operations.declaration.operation import Named, Noun
from dustrun.operations.declaration.parts import Call
from dustrun.operations.shapes import wallets as shapes
from dustrun.operations.shapes.wallets import EXAMPLE_ADDRESS, EXAMPLE_POLICY
from dustrun.services.access.paging import Page
from dustrun.services.wallets import wallets as key_import
from dustrun.services.wallets.funds import Balances, LimitUse
from dustrun.services.wallets.policies import Policies, PolicyText
from dustrun.services.wallets.wallets import ExportedKey, NewWallet
from dustrun.storage.money.wallets import PolicyRow, WalletRow

noun = Noun("Wallets")

WalletId = Annotated[str, Named("id"), Field(description="Id of the wallet.", max_length=128)]
_UNKNOWN = [Code.WALLET_UNKNOWN]
_MOST_CHAINS = 50


@noun.post(
    "/v1/wallets",
    permission="wallet:write",
    answers=shapes.NewWalletAnswer,
    refusals=[Code.WALLET_ADDRESS_TAKEN, Code.UPSTREAM_FAILED, Code.VAULT_LOCKED],
    example={"name": "treasury", "description": "Pays invoices."},
)
async def create_wallet(call: Call, body: shapes.CreateWallet) -> WalletRow:
    """Create a wallet.

    Its policy is empty and denies every spend until you set one with `PUT /v1/wallets/{id}/policy`. The kinds
    `remote` and `env` need `wallet:admin`.
    """
    wallets = call.parts.money.wallets
    new = NewWallet(body.name, body.description, body.is_default)
    if body.kind == "remote":
        return await wallets.add_remote(call.principal, new, body.signer or "", body.address)
    if body.kind == "env":
        return await wallets.add_variable(call.principal, new, body.signer or "")
    if body.kind == "watch":
        return await wallets.watch(call.principal, new, body.address or "")
    return await wallets.create(call.principal, new)


@noun.post(
    "/v1/wallets/import",
    permission="wallet:write",
    answers=shapes.NewWalletAnswer,
    refusals=[Code.WALLET_ADDRESS_TAKEN, Code.VAULT_LOCKED],
    secret_body=True,
    example={"name": "hot", "privateKey": f"0x{'11' * 32}"},
)
async def import_wallet(call: Call, body: shapes.ImportWallet) -> WalletRow:
    """Import a wallet with your own key.

    The key is encrypted at once and never appears in an answer, log or event. A key that this server already holds is
    refused.
    """
    new = NewWallet(body.name, body.description, body.is_default)
    return await call.parts.money.wallets.add_key(call.principal, new, _key_of(body))


def _key_of(body: shapes.ImportWallet) -> key_import.Read:
    if body.private_key is not None:
        return key_import.of_private_key(body.private_key.get_secret_value())
    if body.mnemonic is not None:
        passphrase = "" if body.passphrase is None else body.passphrase.get_secret_value()
        return key_import.of_mnemonic(body.mnemonic.get_secret_value(), passphrase, body.path)
    password = "" if body.password is None else body.password.get_secret_value()
    return key_import.of_keystore(body.keystore or {}, password)


@noun.get("/v1/wallets", permission="wallet:read", answers=PageAnswer[shapes.WalletAnswer])
async def list_wallets(
    call: Call,
    paging: Paged,
    archived: Annotated[bool, Field(description="Whether to include archived wallets.")] = False,
) -> Page[WalletRow]:
    """List wallets: the default one, then newest first."""
    return await call.parts.money.wallets.list_page(call.principal, paging, with_archived=archived)


@noun.get(
    "/v1/wallets/{id}",
    permission="wallet:read",
    answers=shapes.WalletAnswer,
    refusals=_UNKNOWN,
)
async def get_wallet(call: Call, id: WalletId) -> WalletRow:
    """Get one wallet."""
    return await call.parts.money.wallets.get(call.principal, id)


@noun.patch(
    "/v1/wallets/{id}",
    permission="wallet:write",
    reads="wallet:read",
    needed=["isDefault"],
    answers=shapes.WalletAnswer,
    refusals=[*_UNKNOWN, Code.WALLET_CANNOT_SIGN],
    example={"name": "vault"},
)
async def update_wallet(call: Call, id: WalletId, body: shapes.ChangeWallet) -> WalletRow:
    """Rename a wallet."""
    return await call.parts.money.wallets.rename(call.principal, id, name=body.name, description=body.description)


@noun.put(
    "/v1/wallets/{id}/default",
    permission="wallet:write",
    reads="wallet:read",
    needed=["isDefault"],
    answers=shapes.WalletAnswer,
    refusals=[*_UNKNOWN, Code.WALLET_CANNOT_SIGN],
)
async def set_default_wallet(call: Call, id: WalletId) -> WalletRow:
    """Make it the default wallet, which nodes that name none use."""
    return await call.parts.money.wallets.make_default(call.principal, id)


@noun.post(
    "/v1/wallets/{id}/export",
    permission="wallet:admin",
    answers=shapes.WalletExport,
    refusals=[*_UNKNOWN, Code.BEARER_NEEDED, Code.WALLET_CANNOT_SIGN, Code.VAULT_LOCKED, Code.SECRET_UNREADABLE],
    secret=True,
    secret_body=True,
    example={"password": "a long password of your own"},
)
async def export_wallet(call: Call, id: WalletId, body: shapes.ExportWallet) -> ExportedKey:
    """Export a wallet's key as a keystore under your password.

    Possible only for wallets whose key this server stores. The export is audited.
    """
    return await call.parts.money.wallets.export(call.principal, id, body.password.get_secret_value())


@noun.delete(
    "/v1/wallets/{id}",
    permission="wallet:write",
    reads="wallet:read",
    needed=["isDefault"],
    answers=shapes.WalletAnswer,
    refusals=[*_UNKNOWN, Code.WALLET_IN_USE],
)
async def archive_wallet(
    call: Call,
    id: WalletId,
    force: Annotated[bool, Field(description="Archive it even if workflows use it.")] = False,
) -> WalletRow:
    """Archive a wallet.

    The default wallet and wallets with open transactions cannot be archived. If workflows use it, the call is refused
    and lists them, unless `force` is set. Its key stays encrypted, and can still be exported.
    """
    return await call.parts.money.wallets.archive(call.principal, id, force=force)


@noun.post(
    "/v1/wallets/policy-sentences",
    permission="wallet:read",
    answers=shapes.PolicyTextAnswer,
    refusals=_UNKNOWN,
    example={"text": f"on chain 1\npay {EXAMPLE_ADDRESS} up to $2,000 a month, ask above $100"},
)
async def convert_policy_sentences(call: Call, body: shapes.PolicyTextBody) -> PolicyText:
    """Turn sentences into a policy, or a policy into sentences.

    One sentence a line: `pay 0x… up to $2,000 a month, ask above $100`. The policy is read back in sentences; nothing
    is stored. If a line is not understood, `policy` is null and `problems` says which words.
    """
    sentences = call.parts.money.policy_sentences
    found = await (sentences.tell(body.policy) if body.policy else sentences.read(body.text or "", body.rest))
    if body.wallet_id is None or found.policy is None:
        return found
    warnings = await call.parts.money.wallet_policies.warn(call.principal, body.wallet_id, found.policy)
    return replace(found, warnings=tuple(warnings))


@noun.get(
    "/v1/wallets/{id}/policy",
    permission="wallet:read",
    answers=shapes.PolicyAnswer,
    shape=shapes.policies,
    refusals=_UNKNOWN,
)
async def get_wallet_policy(call: Call, id: WalletId) -> Policies:
    """Get the policy in force, and the pending one."""
    return await call.parts.money.wallet_policies.get(call.principal, id)


@noun.put(
    "/v1/wallets/{id}/policy",
    permission="wallet:write",
    reads="wallet:read",
    needed=["newestVersion", "effectiveAt", "pending"],
    answers=shapes.PolicyAnswer,
    shape=shapes.policies,
    refusals=[*_UNKNOWN, Code.POLICY_VERSION_MOVED, Code.WALLET_CANNOT_SIGN],
    example={"policy": EXAMPLE_POLICY, "expectedVersion": 1},
)
async def set_wallet_policy(call: Call, id: WalletId, body: shapes.PutPolicy) -> Policies:
    """Set a wallet's policy.

    A stricter policy takes effect at once. One that loosens anything needs `wallet:admin` and takes effect at
    `effectiveAt`, but not before the delay of the setting `policy_delay_s`. A new version cancels a pending one.
    """
    return await call.parts.money.wallet_policies.put(
        call.principal,
        id,
        body.policy,
        expected_version=body.expected_version,
        effective_at=None if body.effective_at is None else moment_ms(body.effective_at),
    )


@noun.get(
    "/v1/wallets/{id}/policy/history",
    permission="wallet:read",
    answers=PageAnswer[shapes.PolicyVersionAnswer],
    shape=page_shape(shapes.policy_version),
    refusals=_UNKNOWN,
)
async def list_wallet_policies(call: Call, id: WalletId, paging: Paged) -> Page[PolicyRow]:
    """List every version of a policy, newest first."""
    return await call.parts.money.wallet_policies.history(call.principal, id, paging)


@noun.get(
    "/v1/wallets/{id}/balances",
    permission="wallet:read",
    answers=shapes.BalancesAnswer,
    refusals=[*_UNKNOWN, Code.CHAIN_UNKNOWN, Code.CHAIN_NOT_SERVED],
)
async def get_wallet_balances(
    call: Call,
    id: WalletId,
    chain_ids: Annotated[
        str | None,
        Named("chainIds"),
        Field(description="Chain ids, comma-separated. Default: all configured chains."),
    ] = None,
) -> Balances:
    """Get a wallet's balances of native coins and known tokens.

    Chains and tokens that could not be read are listed in `failures`, and `isComplete` is false.
    """
    wanted = None if chain_ids is None else read_chains(chain_ids)
    return await call.parts.money.wallet_funds.balances(call.principal, id, wanted)


@noun.get(
    "/v1/wallets/{id}/spending",
    permission="wallet:read",
    answers=shapes.SpendingAnswer,
    shape=lambda found: {"walletId": found[0], "items": [shapes.spent(item) for item in found[1]]},
    refusals=_UNKNOWN,
)
async def get_wallet_spending(call: Call, id: WalletId) -> tuple[str, list[LimitUse]]:
    """Get the usage of each window limit.

    Open transactions count in full.
    """
    return id, await call.parts.money.wallet_funds.spending(call.principal, id)


def read_chains(text: str) -> list[int]:
    """Chain ids of a parameter, comma-separated; raises `Invalid`."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not 0 < len(parts) <= _MOST_CHAINS or not all(
        part.isascii() and part.isdigit() and len(part) < 19 for part in parts
    ):
        problem = Problem("chainIds", f"must be 1 to {_MOST_CHAINS} chain ids, comma-separated, like 1,8453")
        raise Invalid("A parameter is not valid.", code=Code.PARAMETER_INVALID, details=[problem])
    return [int(part) for part in parts]
