"""Request and response models of wallets, policies, balances and spending."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SecretStr, StringConstraints, model_validator

from dustrun.clock import now_ms
from dustrun.core.money.policy.counting import GAS_USD, USD
from dustrun.core.money.policy.document import LimitScope, WalletPolicy, read_policy, warnings_of
from dustrun.core.values import exact_json
from dustrun.core.values.addresses import read_address
from dustrun.core.values.amounts import format_units
from dustrun.core.values.fields import Fields
from dustrun.operations.declaration.answers import STORED, Answer, From, Time, time
from dustrun.operations.declaration.encoding import data_of
from dustrun.operations.declaration.fields import Description, Instant, Name, Text, Version
from dustrun.services.wallets.funds import Balance, LimitUse
from dustrun.services.wallets.policies import Policies, PolicyText
from dustrun.storage.money.wallets import PolicyRow, WalletRow

Kind = Literal["local", "remote", "env", "watch"]
EXAMPLE_ADDRESS = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
EXAMPLE_POLICY = {
    "chains": [8453],
    "assets": ["eip155:8453/native"],
    "recipients": [EXAMPLE_ADDRESS],
    "limits": [{"maxUsd": "50"}, {"maxUsd": "200", "windowMs": 86400000}],
}
_EMPTY_POLICY_HINT = (
    "The wallet's policy is empty, so it denies every spend. "
    "Set a policy with PUT /v1/wallets/{id}/policy, or `dustrun wallet policy {id} --set policy.json`."
)
_WATCH_HINT = "The wallet is watch-only: it cannot sign."


def _address(text: str) -> str:
    if re.fullmatch(r"(0x)?[0-9a-fA-F]{64}", text.strip()):
        raise ValueError("has the length of a private key, not of an address (0x and 40 hexadecimal digits)")
    return read_address(text)


Address = Annotated[
    str, AfterValidator(_address), StringConstraints(max_length=100), Field(examples=["0x" + "00" * 19 + "01"])
]
Secret = Annotated[SecretStr, Field(min_length=1, max_length=4096)]


class CreateWallet(Fields):
    """A new wallet. `local`: a new key, stored by this server. `remote`, `env`: the key is stored elsewhere. `watch`:
    no key."""

    name: Name = Field(description="Label.", examples=["treasury"])
    description: Description | None = Field(None, description="Free text.")
    kind: Kind = Field("local", description="Where the key is stored.")
    signer: Annotated[Text, StringConstraints(min_length=1, max_length=128)] | None = Field(
        None,
        description=(
            "For `remote`: name of the signer. For `env`: name of the environment variable. The operator must allow it."
        ),
    )
    address: Address | None = Field(
        None,
        description=("For `watch`: the address. For `remote`: the address to use, required if the signer has several."),
    )
    is_default: bool = Field(
        False, description=("Whether nodes that name no wallet use it. The first wallet is always the default.")
    )

    @model_validator(mode="after")
    def _check(self) -> CreateWallet:
        if (self.signer is not None) != (self.kind in ("remote", "env")):
            raise ValueError("signer is required for the kinds remote and env, and not allowed for others")
        if self.address is not None and self.kind not in ("remote", "watch"):
            raise ValueError("address is allowed only for the kinds remote and watch")
        if self.address is None and self.kind == "watch":
            raise ValueError("address is required for the kind watch")
        return self


class ImportWallet(Fields):
    """A wallet to import: exactly one of `privateKey`, `mnemonic` and `keystore`."""

    name: Name = Field(description="Label.", examples=["treasury"])
    description: Description | None = Field(None, description="Free text.")
    is_default: bool = Field(
        False, description=("Whether nodes that name no wallet use it. The first wallet is always the default.")
    )
    private_key: Secret | None = Field(None, description="64 hexadecimal digits, with or without 0x.")
    mnemonic: Secret | None = Field(None, description="BIP-39 mnemonic of 12 to 24 words.")
    passphrase: SecretStr | None = Field(None, max_length=4096, description="BIP-39 passphrase of the mnemonic.")
    path: Annotated[Text, StringConstraints(max_length=200)] | None = Field(
        None, description="Derivation path of the mnemonic.", examples=["m/44'/60'/0'/0/0"]
    )
    keystore: dict[str, Any] | None = Field(None, description="A version 3 keystore.", repr=False)
    password: SecretStr | None = Field(None, max_length=4096, description="Password of the keystore.")

    @model_validator(mode="after")
    def _check(self) -> ImportWallet:
        if sum(given is not None for given in (self.private_key, self.mnemonic, self.keystore)) != 1:
            raise ValueError("give exactly one of privateKey, mnemonic and keystore")
        if (self.keystore is None) != (self.password is None):
            raise ValueError("keystore and password must be given together")
        if self.mnemonic is None and (self.path is not None or self.passphrase is not None):
            raise ValueError("path and passphrase are allowed only with a mnemonic")
        return self


class ChangeWallet(Fields):
    """Fields to change; absent fields stay as they are."""

    name: Name | None = Field(None, description="Label.")
    description: Description | None = Field(None, description="Free text.")


class ExportWallet(Fields):
    """The password of the exported keystore."""

    password: SecretStr = Field(min_length=8, max_length=1024, description="Password of the new keystore.")


class WalletAnswer(Answer):
    """A wallet. No answer contains its key."""

    id: str
    organization_id: Annotated[str, From("org_id")]
    name: str
    description: str | None
    kind: Kind
    address: str = Field(description="With the EIP-55 checksum.")
    signer: str | None = Field(description="Name of the remote signer or of the environment variable.")
    is_default: bool
    can_sign: bool = Field(description="False if it is watch-only or archived.")
    created_at: Time
    updated_at: Time
    archived_at: Time | None


class NewWalletAnswer(WalletAnswer):
    """A new wallet."""

    hint: Annotated[str, From(_hint)] = Field(description="What to do next.")


class WalletExport(Answer):
    """A key, encrypted with the caller's password."""

    id: Annotated[str, From("wallet.id")]
    address: Annotated[str, From("wallet.address")]
    keystore: dict[str, Any] = Field(description="Version 3 keystore, as wallets and nodes import it.")


class PutPolicy(Fields):
    """A complete policy; replaces the previous one."""

    policy: WalletPolicy = Field(description="What the wallet may do.")
    expected_version: Version | None = Field(None, description="The `newestVersion` that you last read.")
    effective_at: Instant | None = Field(
        None,
        description=(
            "When the change takes effect if it loosens the policy; no earlier than after the server's "
            "`policy_delay_s`."
        ),
    )


class PendingPolicyAnswer(Answer):
    """A policy that is not in force yet."""

    version: int
    policy: Annotated[WalletPolicy, From("document"), STORED]
    effective_at: Time


class PolicyAnswer(Answer):
    """The policy in force, and the pending one, if any."""

    wallet_id: str
    version: int
    newest_version: int = Field(description="Value for `expectedVersion`.")
    policy: WalletPolicy
    effective_at: Time
    warnings: list[str] = Field(description="What it leaves open that a new policy would not.")
    unanswered: str | None = Field(
        description="Why nobody could approve what your own runs ask; also one of `warnings`. Null: somebody could, or "
        "nothing is asked."
    )
    pending: PendingPolicyAnswer | None


class PolicyTextBody(Fields):
    """Sentences or a policy, one of both."""

    text: Annotated[Text, StringConstraints(max_length=20_000)] | None = Field(
        None, description="One sentence a line.", examples=["on Ethereum\npay 0x… up to $2,000 a month, ask above $100"]
    )
    policy: WalletPolicy | None = Field(None, description="A policy to tell in sentences.")
    rest: dict[str, Any] = Field({}, description="With `text`: fields of the policy that sentences cannot say.")
    wallet_id: Annotated[Text, StringConstraints(max_length=128)] | None = Field(
        None, description="The wallet that would have the policy, for warnings."
    )

    @model_validator(mode="after")
    def _check(self) -> PolicyTextBody:
        if (self.text is None) == (self.policy is None):
            raise ValueError("give exactly one of text and policy")
        return self


class PolicyProblemAnswer(Answer):
    """A line that is not understood."""

    line: int = Field(description="From 1.")
    text: str
    message: str


class PolicyTextAnswer(Answer):
    """A policy and its sentences."""

    policy: Annotated[WalletPolicy | None, From(_policy)] = Field(description="Null if a line is not understood.")
    sentences: Annotated[list[str], From("told.sentences")] = Field(description="The policy read back.")
    rest: Annotated[dict[str, Any], From(lambda one: dict(one.told.rest))] = Field(
        description="Fields of the policy that the sentences do not say; of lists, entries."
    )
    remarks: Annotated[list[str], From("told.remarks")] = Field(
        description="For people: what the rest says, and what holds by default."
    )
    statements: Annotated[dict[str, str], From(lambda one: dict(one.statements))] = Field(
        description="Which sentence or remark says each statement that a refusal may name.",
        examples=[{"limits[0]": "spend up to $5 a day"}],
    )
    problems: list[PolicyProblemAnswer]
    warnings: list[str] = Field(description="With `walletId`: what would keep the policy from working.")


class PolicyVersionAnswer(Answer):
    """One version of a policy."""

    wallet_id: str
    version: int
    policy: WalletPolicy
    is_looser: bool = Field(description="Whether it allows something that the previous policy did not.")
    effective_at: Time
    cancelled_at: Time | None = Field(description="When it was superseded before it came into force.")
    is_pending: bool
    created_by: str = Field(description="Id of the key.")
    created_at: Time


class BalanceAnswer(Answer):
    """Balance of one asset."""

    asset: Annotated[str, From("asset.key")] = Field(examples=["eip155:1/native"])
    token: Annotated[str | None, From("asset.token")] = Field(
        description="Address of the token; null for the native coin."
    )
    symbol: str
    decimals: int
    amount: Annotated[str, From(lambda one: str(one.units))] = Field(description="Base units.")
    amount_formatted: Annotated[str, From(_formatted)]


class FailureAnswer(Answer):
    """A balance that could not be read."""

    token: str | None = Field(description="The token; null if the whole chain could not be read.")
    code: int
    message: str


class ChainBalancesAnswer(Answer):
    """Balances on one chain."""

    chain_id: Annotated[int, From("network.chain_id")]
    name: Annotated[str, From("network.name")]
    balances: list[BalanceAnswer]
    failures: list[FailureAnswer]


class BalancesAnswer(Answer):
    """Balances of the wallet."""

    wallet_id: str
    address: str
    at: Annotated[Time, From("at_ms")]
    is_complete: bool = Field(description="False if a chain has `failures`.")
    chains: list[ChainBalancesAnswer]


class SpentAnswer(Answer):
    """Usage of one limit."""

    measure: str = Field(description="An asset, `usd`, `gasUsd` or `count`.")
    window_ms: int
    spent: str = Field(description="Base units of the asset, US dollars, or a count. Open transactions are included.")
    max: str
    remaining: str
    of: LimitScope | None = Field(description="What the limit counts; null: everything.")


class SpendingAnswer(Answer):
    """Usage of the window limits of the policy in force."""

    wallet_id: str
    items: list[SpentAnswer]


def _hint(row: WalletRow) -> str:
    return _EMPTY_POLICY_HINT.replace("{id}", row.id) if row.can_sign else _WATCH_HINT


def _policy(found: PolicyText) -> Any:
    return None if found.policy is None else found.policy.model_dump(mode="json", by_alias=True)


def _formatted(found: Balance) -> str:
    return format_units(found.units, found.decimals)


def policies(found: Policies) -> dict[str, Any]:
    """The policy in force and the pending one."""
    return {
        "walletId": found.in_force.wallet_id,
        "version": found.in_force.version,
        "newestVersion": found.newest,
        **_document(found.in_force),
        "warnings": [
            *warnings_of(read_policy(found.in_force.document)),
            *([found.unanswered] if found.unanswered is not None else []),
        ],
        "unanswered": found.unanswered,
        "pending": None if found.pending is None else data_of(PendingPolicyAnswer, found.pending),
    }


def policy_version(row: PolicyRow) -> dict[str, Any]:
    """One version of the history; its fields keep their order."""
    return {
        "walletId": row.wallet_id,
        "version": row.version,
        **_document(row),
        "isLooser": bool(row.is_looser),
        "cancelledAt": time(row.cancelled_at),
        "isPending": row.is_pending(now_ms()),
        "createdBy": row.created_by,
        "createdAt": time(row.created_at),
    }


def _document(row: PolicyRow) -> dict[str, Any]:
    return {"policy": exact_json.loads_own(row.document), "effectiveAt": time(row.effective_at)}


def spent(found: LimitUse) -> dict[str, Any]:
    """Usage of a limit."""
    return {
        "measure": found.measure,
        "windowMs": found.window_ms,
        "spent": _shown(found.measure, found.spent_units),
        "max": _shown(found.measure, found.max_units),
        "remaining": _shown(found.measure, max(0, found.max_units - found.spent_units)),
        "of": None if found.of is None else found.of.model_dump(mode="json", by_alias=True),
    }


def _shown(measure: str, units: int) -> str:
    """US dollars as a decimal number, everything else in base units."""
    return format_units(units, 18) if measure in (USD, GAS_USD) else str(units)
