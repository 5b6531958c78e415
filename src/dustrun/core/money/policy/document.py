"""The policy document of a wallet. Whatever it does not allow is denied; an empty one allows nothing."""

from __future__ import annotations

import re
from collections import Counter
from fractions import Fraction
from functools import lru_cache
from typing import Annotated, Final, Literal

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)

from dustrun.core.evm.calls import read_selector
from dustrun.core.money.policy.conditions import MAX_LENGTH, MethodCondition, compile_condition, read_method
from dustrun.core.money.policy.sources_rule import Sources, default_sources
from dustrun.core.values import exact_json
from dustrun.core.values.addresses import read_address
from dustrun.core.values.fields import Fields

HOUR_MS = 3_600_000
MAX_WINDOW_MS = 30 * 24 * HOUR_MS
APPROVAL_MS = 24 * HOUR_MS
_MAX_CONDITIONS = 20
_ASSET = re.compile(r"(eip155:[1-9][0-9]{0,18})/(native|\*|erc20:(0x[0-9a-fA-F]{40}))")
_ACCOUNT = re.compile(r"(?:(eip155:[1-9][0-9]{0,18}):)?(\*|0x[0-9a-fA-F]{40})")


def _read_asset(text: str) -> str:
    if text == "*":
        return text
    found = _ASSET.fullmatch(text)
    if found is None:
        raise ValueError('must be "*", eip155:1/*, eip155:1/native or eip155:1/erc20:0x…')
    return text if found[3] is None else f"{found[1]}/erc20:{read_address(found[3])}"


def _read_exact_asset(text: str) -> str:
    if text.endswith("*"):
        raise ValueError("must name one asset: eip155:1/native or eip155:1/erc20:0x…")
    return _read_asset(text)


def _read_account(text: str) -> str:
    found = _ACCOUNT.fullmatch(text)
    if found is None:
        raise ValueError('must be "*", an address 0x…, or one on one chain: eip155:1:0x… or eip155:1:*')
    address = "*" if found[2] == "*" else read_address(found[2])
    return address if found[1] is None else f"{found[1]}:{address}"


def _check_method(text: str) -> str:
    if text != "*":
        read_selector(text)
    return text


Units = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,78}$")]
Usd = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,18}(\.[0-9]{1,18})?$")]
AssetPattern = Annotated[str, AfterValidator(_read_asset)]
OneAsset = Annotated[str, AfterValidator(_read_exact_asset)]
Account = Annotated[str, AfterValidator(_read_account)]
Method = Annotated[str, AfterValidator(_check_method), StringConstraints(max_length=512)]
ChainId = Annotated[int, Field(ge=1, lt=2**63)]


class LimitScope(Fields):
    """What a limit counts: all that is named must fit, one of each list. An empty list restricts nothing."""

    contracts: tuple[Account, ...] = Field(
        (), max_length=100, description="Contracts that are called, approved or paid by the call."
    )
    methods: tuple[Method, ...] = Field((), max_length=100, description="Methods, by signature or selector.")
    recipients: tuple[Account, ...] = Field((), max_length=1000, description="Who is paid.")
    assets: tuple[AssetPattern, ...] = Field((), max_length=100, description="Assets that are moved.")
    workflows: tuple[str, ...] = Field((), max_length=100, description="Ids of workflows whose runs spend.")
    keys: tuple[str, ...] = Field((), max_length=100, description="Ids of keys for which runs act.")


class Limit(Fields):
    """A limit per transaction or per rolling window: exactly one of the `max…` fields."""

    asset: OneAsset | None = Field(None, description="The asset that `maxUnits` counts, e.g. `eip155:1/native`.")
    max_units: Units | None = Field(None, description="Maximum in base units of `asset`.")
    max_usd: Usd | None = Field(None, description="Maximum in US dollars, over all assets.")
    max_count: int | None = Field(
        None, ge=0, le=1_000_000, description=("Maximum number of transactions and signatures.")
    )
    max_gas_usd: Usd | None = Field(None, description="Maximum network fees in US dollars.")
    window_ms: int | None = Field(
        None,
        ge=HOUR_MS,
        le=MAX_WINDOW_MS,
        description="Length of the rolling window in milliseconds, from one hour to 30 days; null: per transaction.",
    )

    of: LimitScope | None = Field(None, description="What it counts; null: everything.")
    per: Literal["run", "workflow", "key", "recipient"] | None = Field(
        None,
        description="Counts each of them by itself. `run`: the whole run with its retries, without `windowMs`.",
    )

    @property
    def is_scoped(self) -> bool:
        """Whether it counts only a part of what the wallet does."""
        return self.of is not None or self.per is not None

    @model_validator(mode="after")
    def _check(self) -> Limit:
        given = [self.max_units, self.max_usd, self.max_count, self.max_gas_usd]
        if sum(value is not None for value in given) != 1:
            raise ValueError("a limit must have exactly one of maxUnits, maxUsd, maxCount and maxGasUsd")
        if (self.asset is None) != (self.max_units is None):
            raise ValueError("asset and maxUnits must be set together")
        if self.window_ms is None and self.max_count is not None and self.per != "run":
            raise ValueError("maxCount requires windowMs, or per run")
        if self.is_scoped and self.max_gas_usd is not None:
            raise ValueError("maxGasUsd counts all network fees: it cannot have of or per")
        if self.per == "run" and self.window_ms is not None:
            raise ValueError("a limit per run has no windowMs: it counts the whole run")
        if self.per in ("workflow", "key") and self.window_ms is None:
            raise ValueError(f"a limit per {self.per} requires windowMs")
        return self


class GasRule(Fields):
    """Ceilings for the network fee of one transaction; all rules for its chain apply."""

    chain_id: ChainId | None = Field(None, description="The chain; null: every chain.")
    max_gas: int | None = Field(None, ge=0, lt=2**63, description="Maximum gas limit.")
    max_fee_per_gas: Units | None = Field(None, description="Maximum fee per unit of gas, in base units.")
    max_gas_usd: Usd | None = Field(None, description="Maximum total fee, in US dollars.")


class AskTotal(Fields):
    """A sum above which a person is asked, with everything spent before: exactly one of `usd` and `asset` with
    `units`."""

    per: Literal["batch", "run", "window"] = Field(
        description="What is added up: the transactions of one node (all rows of a batch), of one run with its retries "
        "and the runs that it calls, or everything that the wallet spends within `windowMs`."
    )
    window_ms: int | None = Field(
        None,
        ge=HOUR_MS,
        le=MAX_WINDOW_MS,
        description="Of a window: its length in milliseconds, from one hour to 30 days.",
    )
    usd: Usd | None = Field(None, description="US dollars over all assets.")
    asset: OneAsset | None = Field(None, description="The asset that `units` counts.")
    units: Units | None = Field(None, description="Base units of `asset`.")

    @model_validator(mode="after")
    def _check(self) -> AskTotal:
        if (self.asset is None) != (self.units is None) or (self.usd is None) == (self.units is None):
            raise ValueError("a total must have either usd, or asset and units")
        if (self.per == "window") != (self.window_ms is not None):
            raise ValueError("windowMs belongs to a total per window, and must be set there")
        return self


class ApprovalAbove(Fields):
    """Spends above any of these need a person's approval of the exact transactions."""

    usd: Usd | None = Field(None, description="US dollars moved by one transaction.")
    assets: dict[OneAsset, Units] = Field(default_factory=dict, description="Base units by asset in one transaction.")
    totals: tuple[AskTotal, ...] = Field(
        (), max_length=50, description="Sums per batch, per run or per rolling window; each of them asks."
    )


class ApprovalRules(Fields):
    """How what the policy asks about is approved."""

    quorum: int = Field(
        1,
        ge=1,
        le=10,
        description="How many keys must approve it, no two of them one hand, and none the hand that started the run. "
        "One that rejects it ends it.",
    )
    approvers: tuple[Annotated[str, StringConstraints(min_length=1, max_length=64)], ...] = Field(
        (),
        max_length=100,
        description="Ids of the keys that may decide; empty: every key with the permission.",
    )
    expires_ms: int = Field(
        APPROVAL_MS,
        ge=60_000,
        le=MAX_WINDOW_MS,
        description="Milliseconds after which a question that is not approved ends, and with it what it asks about.",
    )


class SignatureRules(Fields):
    """Signatures other than transactions; they can move money too."""

    messages: bool = Field(False, description="Whether plain messages (EIP-191) may be signed.")
    typed_data: Literal["none", "known", "any"] = Field(
        "known",
        description=(
            "`known`: permits and orders whose amounts can be decoded, which count like approvals; `any`: also "
            "documents that cannot be decoded."
        ),
    )


class MethodRule(Fields):
    """A method that may be called only with arguments that fulfil a condition."""

    method: str = Field(
        max_length=1000,
        description="The whole signature; with names of its parameters where the condition uses them.",
        examples=["withdraw(address asset, uint256 amount, address to)"],
    )
    where: str = Field(
        min_length=1,
        max_length=MAX_LENGTH,
        description="An expression over the decoded arguments (by name, or `args[0]`), `wallet`, `value` (the coin "
        "sent, in base units) and `chain`; it can use `units()`. Anything but true denies, also what cannot be "
        "evaluated.",
        examples=["to == wallet && amount <= units('5', 6)"],
    )

    @field_validator("method")
    @classmethod
    def _check_method(cls, method: str) -> str:
        read_method(method)
        return method

    @field_validator("where")
    @classmethod
    def _check_where(cls, where: str, info: ValidationInfo) -> str:
        if "method" in info.data:
            compile_condition(info.data["method"], where)
        return where

    @property
    def condition(self) -> MethodCondition:
        """The compiled condition."""
        return compile_condition(self.method, self.where)


def _form_of(entry: object) -> str:
    return "[rule]" if isinstance(entry, dict | MethodRule) else "[text]"


MethodEntry = Annotated[
    Annotated[Method, Tag("[text]")] | Annotated[MethodRule, Tag("[rule]")],
    Discriminator(_form_of),
]


class Outflow(Fields):
    """What a transaction may take from the wallet by balances, simulated on the newest block before it is signed."""

    assets: dict[OneAsset, Units] = Field(default_factory=dict, description="Maximum in base units by asset.")
    max_usd: Usd | None = Field(
        None,
        description="Maximum in US dollars over all assets; one without a price may leave only if `assets` names it.",
    )
    beyond_declared: bool = Field(False, description="Whether more may leave than the node declares.")
    allowances_beyond_declared: bool = Field(
        False, description="Whether allowances may rise further than the node declares."
    )
    unsimulated: Literal["deny", "declared"] = Field(
        "deny",
        description="If no endpoint can simulate: `deny`, or `declared`, which trusts what the node declares.",
    )


class WalletPolicy(Fields):
    """What a wallet may do. An empty list allows nothing, `*` in a list allows everything."""

    schema_version: Literal[1] = Field(1, description="Version of this document's schema.")
    chains: tuple[ChainId | Literal["*"], ...] = Field((), max_length=200, description="Allowed chains, by id.")
    assets: tuple[AssetPattern, ...] = Field(
        (),
        max_length=1000,
        description=("Assets that may be moved: `eip155:1/native`, `eip155:1/erc20:0x…`, `eip155:1/*`."),
    )
    recipients: tuple[Account, ...] = Field(
        (), max_length=1000, description="Addresses that may be paid: `0x…`, or on one chain only `eip155:1:0x…`."
    )
    contracts: tuple[Account, ...] = Field(
        (),
        max_length=1000,
        description=(
            "Contracts that may be called, paid by the call, and approved to spend. Transfers and approvals of a "
            "token in `assets` need no entry for the token."
        ),
    )
    methods: tuple[MethodEntry, ...] = Field(
        (),
        max_length=1000,
        description=(
            "Methods that may be called there: a signature like `deposit(uint256)`, a selector like `0xb6b55f25`, or a "
            "method with a condition on its arguments. `*` allows neither executors, nor grants, nor what gives to "
            "others than the wallet."
        ),
    )
    limits: tuple[Limit, ...] = Field((), max_length=200, description="Limits; all of them apply.")
    gas: tuple[GasRule, ...] = Field((), max_length=200, description="Ceilings for network fees; all of them apply.")
    outflow: Outflow | None = Field(
        None, description="Ceiling on what a transaction really takes; null: it is not simulated before signing."
    )
    sources: Sources | None = Field(
        None,
        description="What may shape each money field of a spend, as `GET /v1/workflows/{id}/sources` names it; a field "
        "that is left out may come from anything. null: all fields.",
    )
    fee_above_usual: int | None = Field(
        None,
        ge=1,
        le=1000,
        description=(
            "Ask a person if the network fee may exceed this many times the chain's usual one; null: no such question."
        ),
    )
    approval_above: ApprovalAbove | None = Field(None, description="What needs a person's approval.")
    approval: ApprovalRules = Field(ApprovalRules(), description="How many keys approve it, which, and for how long.")
    signatures: SignatureRules = Field(SignatureRules(), description="Signatures other than transactions.")
    allow_deploy: bool = Field(False, description="Whether contracts may be created.")
    allow_unlimited_approvals: bool = Field(
        False, description="Whether unlimited approvals may be made; they count in full against every limit."
    )
    allow_unverified_calldata: bool = Field(
        False,
        description=(
            "Whether calls with calldata that cannot be decoded may be made; contract and method must be listed."
        ),
    )
    allow_unpriced_assets: bool = Field(
        False, description="Whether assets without a price may be moved; they count as zero US dollars."
    )
    new_recipient_hours: int = Field(
        0,
        ge=0,
        le=720,
        description=(
            "Hours during which a new recipient is not paid, counted from when a policy first named it or a spend "
            "first asked to pay it."
        ),
    )

    @model_validator(mode="after")
    def _check(self) -> WalletPolicy:
        counts = Counter(rule.condition.selector for rule in self.methods if isinstance(rule, MethodRule))
        if any(count > _MAX_CONDITIONS for count in counts.values()):
            raise ValueError(f"methods: one method may have at most {_MAX_CONDITIONS} conditions")
        return self


FEE_TIMES_USUAL: Final = 10


def with_defaults(policy: WalletPolicy) -> WalletPolicy:
    """A new policy with what it does not mention: what leaves by balances is bounded by what is declared, and a wild
    fee asks. A policy that says null has neither, and one that allows nothing needs neither.
    """
    defaults: dict[str, object] = {
        "outflow": Outflow(),
        "fee_above_usual": FEE_TIMES_USUAL,
        "sources": default_sources(),
    }
    missing = {name: value for name, value in defaults.items() if name not in policy.model_fields_set}
    return policy.model_copy(update=missing) if policy.chains else policy


def warnings_of(policy: WalletPolicy) -> list[str]:
    """What a policy leaves open that a new one would not."""
    if not policy.chains:
        return []
    found = []
    if policy.outflow is None:
        found.append('Nothing is simulated before it is signed, because "outflow" is null: set it to {}.')
    if policy.fee_above_usual is None and not policy.gas:
        found.append(f'No network fee is too high: set "feeAboveUsual" to {FEE_TIMES_USUAL}, or ceilings in "gas".')
    if policy.sources is None:
        found.append('Models, forms and other systems may say who is paid and how much: leave out "sources".')
    return found


def most_units_of(policy: WalletPolicy, key: str) -> int | None:
    """The least maximum in base units that a policy states for an asset; None if it states none."""
    stated = [limit.max_units for limit in policy.limits if (limit.asset or "").lower() == key.lower()]
    stated += [units for asset, units in (policy.outflow or Outflow()).assets.items() if asset.lower() == key.lower()]
    return min((int(units) for units in stated if units is not None), default=None)


@lru_cache(maxsize=256)
def read_policy(text: str) -> WalletPolicy:
    """Parses a policy from stored JSON."""
    return WalletPolicy.model_validate(exact_json.loads_own(text))


def usd_units(amount: str) -> int:
    """US dollars of a limit in exact units of 1e-18."""
    return int(Fraction(amount) * 10**18)
