"""Scales the amounts of a spend's input to dust, for a node about to run and for a plan. Only declared amounts are
touched; calldata is never searched for numbers. A refusal is a `Refused` with a `DUST_…` code and the field."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

from pydantic import BaseModel

from dustrun.core.money import dust
from dustrun.core.money.dust import DustedAmount, DustRefusal, DustRules
from dustrun.core.money.intent import FundsMovement
from dustrun.core.money.movements import Path, Spot, find_spots, replace_at, show_path
from dustrun.core.money.policy import WalletPolicy, Worth
from dustrun.core.money.policy.document import most_units_of
from dustrun.core.money.tokens import read_asset_text
from dustrun.core.values.amounts import MAX_UINT256, Asset, format_units, read_units
from dustrun.core.values.exact_json import plain_digits
from dustrun.errors import Code, Invalid, Problem, Refused
from dustrun.records import dataclass
from dustrun.sdk import Action
from dustrun.sdk.chain import Chain, ChainCall, Price
from dustrun.services.prices import PriceBook, Survey

_BALANCE_OF: Final = "70a08231"
_ALLOWANCE: Final = "dd62ed3e"
_MAX: Final = "max"
_UNLIMITED, _EXACT = "unlimited", "exact"
_SKIP: Final = 'set dust: "skip" on the node'
_DECLARE: Final = f"list its arguments that are amounts of tokens in amounts ([] if it takes none), or {_SKIP}"

ChainOf = Callable[[int], Chain]
PolicyOf = Callable[[str], Awaitable[WalletPolicy | None]]


@dataclass(frozen=True, slots=True)
class Entry:
    """The outcome for one amount: a line of the plan. `limits` are the minimum out and maximum in, before and after, by
    field."""

    field: str
    direction: str
    asset: Asset
    decimals: int
    recipient: str | None
    dusted: DustedAmount
    price: Price | None
    limits: Mapping[str, tuple[int, int]]
    warnings: tuple[str, ...]

    def public(self) -> dict[str, Any]:
        """As JSON; amounts are strings."""
        found: dict[str, Any] = {
            "field": self.field,
            "direction": self.direction,
            "asset": self.asset.key,
            "chainId": self.asset.chain_id,
            "decimals": self.decimals,
            "recipient": self.recipient,
            "original": str(self.dusted.original_units),
            "originalFormatted": format_units(self.dusted.original_units, self.decimals),
            "dust": str(self.dusted.units),
            "dustFormatted": format_units(self.dusted.units, self.decimals),
            "usd": None if self.dusted.usd_units is None else format_units(self.dusted.usd_units, 18),
            "price": None,
            "limits": {field: {"from": str(old), "to": str(new)} for field, (old, new) in self.limits.items()},
            "warnings": list(self.warnings),
        }
        if self.price is not None:
            found["price"] = {
                "usd": plain_digits(self.price.usd),
                "source": self.price.source,
                "atMs": self.price.at_ms,
                "ageMs": self.price.age_ms,
            }
        return found


@dataclass(frozen=True, slots=True)
class ScaledInput:
    """An input with its amounts scaled."""

    value: BaseModel
    entries: tuple[Entry, ...]

    @property
    def usd_units(self) -> int:
        """The spend in 1e-18 dollars, as far as it is priced."""
        return sum(entry.dusted.usd_units or 0 for entry in self.entries)


@dataclass(frozen=True, slots=True)
class Scene:
    """The context of scaling: the chains, the wallet's address, and what node and run set."""

    chain_of: ChainOf
    owner: str
    override: int | None = None
    spent_usd_units: int = 0
    wallet_id: str | None = None


class Duster:
    """Scales amounts by the prices of a price book."""

    def __init__(self, prices: PriceBook, rules: DustRules, policy_of: PolicyOf) -> None:
        self._prices = prices
        self.rules = rules
        self._policy_of = policy_of

    async def scale(self, action: Action, value: BaseModel, scene: Scene) -> ScaledInput:
        """A node's input with every declared amount scaled; raises `Refused` or `Temporary`."""
        wire = value.model_dump(by_alias=True)
        spots = scalable_spots(action, wire)
        changes: dict[Path, Any] = {}
        entries: list[Entry] = []
        for spot in spots:
            entry, changed = await self.scale_spot(spot, scene)
            entries.append(entry)
            changes.update(changed)
            scene = replace(scene, spent_usd_units=scene.spent_usd_units + (entry.dusted.usd_units or 0))
        return ScaledInput(type(value).model_validate(replace_at(wire, changes)), tuple(entries))

    async def scale_spot(self, spot: Spot, scene: Scene) -> tuple[Entry, dict[Path, Any]]:
        """Scales one amount; returns its entry and the changes to the input."""
        chain, asset = locate(spot, scene.chain_of)
        original = await self._original(spot, chain, asset, scene.owner)
        survey = await self._survey(asset, is_needed=original != 0 and scene.override is None)
        price = survey.for_dust if survey is not None else None
        decimals = survey.decimals if survey is not None else await self._prices.decimals(asset)
        worth = None if price is None else Worth(price.usd, decimals)
        most = await self._most_units(asset, scene) if worth is None and scene.override is not None else None
        override, spent = scene.override, scene.spent_usd_units
        try:
            dusted = dust.make_dust(
                original, worth, self.rules, override=override, most_units=most, spent_usd_units=spent
            )
            if spot.movement.direction == "approve":
                return await self._approval(spot, chain, asset, scene, _Found(dusted, price, decimals, survey))
        except DustRefusal as refusal:
            raise _refused(refusal, spot.field) from None
        changes, limits = _limits(spot, dusted)
        if dusted.units:
            changes[spot.amount_path] = dusted.units
        notes = []
        if spot.approval_path is not None and spot.approval == _UNLIMITED:
            changes[spot.approval_path] = _EXACT
            notes.append("An approval is dust too: what it would allow without an end is the exact amount here.")
        return _entry(spot, asset, _Found(dusted, price, decimals, survey), limits, scene, *notes), changes

    async def _approval(
        self, spot: Spot, chain: Chain, asset: Asset, scene: Scene, found: _Found
    ) -> tuple[Entry, dict[Path, Any]]:
        """Plans an approval only if it raises the allowance; otherwise the input keeps the present one."""
        if asset.token is None or not isinstance(spot.recipient, str):
            raise DustRefusal("DUST_UNSCALABLE", "The approval names no token or spender.")
        data = bytes.fromhex(_ALLOWANCE + _word(scene.owner) + _word(spot.recipient))
        allowance = int.from_bytes((await chain.call(ChainCall(asset.token, data)))[:32])
        units = dust.scale_approval(found.dusted, allowance)
        if units is not None:
            return _entry(spot, asset, found, {}, scene), {spot.amount_path: units}
        kept = replace(found, dusted=DustedAmount(found.dusted.original_units, 0, 0))
        note = (
            f"The spender may already take {allowance} base units; a dust test never lowers an allowance, so no "
            "approval is sent."
        )
        return _entry(spot, asset, kept, {}, scene, note), {spot.amount_path: allowance}

    async def _most_units(self, asset: Asset, scene: Scene) -> int | None:
        """The maximum in base units that the wallet's policy states for an asset."""
        policy = None if scene.wallet_id is None else await self._policy_of(scene.wallet_id)
        return None if policy is None else most_units_of(policy, asset.key)

    async def _survey(self, asset: Asset, *, is_needed: bool) -> Survey | None:
        """The price; None if no source has one and it can be done without."""
        try:
            survey = await self._prices.survey(asset)
            if survey.leap_from is not None:
                raise _leapt(survey, survey.leap_from)
            return survey
        except Invalid as error:
            if error.code is not Code.UNPRICED:
                raise
            if not is_needed:
                return None
            raise Refused(error.message, code=Code.DUST_UNPRICED, details=error.details) from None

    async def _original(self, spot: Spot, chain: Chain, asset: Asset, owner: str) -> int:
        """The amount as an integer; `max` is the balance, or for an approval the maximum."""
        if spot.amount == _MAX:
            if spot.movement.direction == "approve":
                return MAX_UINT256
            if asset.token is None:
                return await chain.balance(owner)
            data = bytes.fromhex(_BALANCE_OF + _word(owner))
            return int.from_bytes((await chain.call(ChainCall(asset.token, data)))[:32])
        return read_amount(spot)


@dataclass(frozen=True, slots=True)
class _Found:
    dusted: DustedAmount
    price: Price | None
    decimals: int
    survey: Survey | None


def scalable_spots(action: Action, wire: Mapping[str, Any]) -> list[Spot]:
    """The amounts of an input; raises `Refused` if it moves something that cannot be scaled."""
    check_scalable(action.type, action.funds_movement)
    spots = [spot for movement in action.funds_movement for spot in find_spots(movement, wire)]
    if not spots:
        raise _unscalable(f'The input of "{action.type}" names no amount that could be scaled; {_DECLARE}')
    return spots


def check_scalable(type: str, movements: Sequence[FundsMovement]) -> None:
    """Raises `Refused` for an action whose amounts cannot be found."""
    if not movements:
        raise _unscalable(f'The action "{type}" declares no amount; {_SKIP}')
    if any(not movement.scales or movement.amount_field is None for movement in movements):
        raise _unscalable(f'The action "{type}" moves value that cannot be scaled; {_SKIP}')


def _unscalable(message: str) -> Refused:
    return Refused(f"{message}.", code=Code.DUST_UNSCALABLE)


def locate(spot: Spot, chain_of: ChainOf) -> tuple[Chain, Asset]:
    """The chain and asset of an amount; raises `Invalid` with the field."""
    movement = spot.movement
    try:
        chain_id = int(spot.chain)
    except (TypeError, ValueError):
        raise _invalid(movement.chain_field, "names no chain") from None
    chain = chain_of(chain_id)
    if movement.token_field is None:
        return chain, Asset(chain_id)
    try:
        return chain, Asset(chain_id, read_asset_text(chain.network, str(spot.token)))
    except ValueError as error:
        raise _invalid(movement.token_field, str(error)) from None


def read_amount(spot: Spot) -> int:
    """The amount as an integer; raises `Invalid` with the field."""
    try:
        return read_units(spot.amount)
    except ValueError as error:
        raise _invalid(spot.field, str(error)) from None


def _invalid(field: str, message: str) -> Invalid:
    return Invalid(f"{field}: {message}.", details=[Problem(f"payload.{field}", message)])


def _leapt(survey: Survey, before: Decimal) -> Refused:
    message = f"{survey.tell_leap(before)} to compute a dust amount from it: set static_prices."
    return Refused(message, code=Code.DUST_UNPRICED)


def _refused(refusal: DustRefusal, field: str) -> Refused:
    found = [Problem(f"payload.{field}", refusal.message, refusal.code)]
    return Refused(refusal.message, code=Code[refusal.code], details=found)


def _limits(spot: Spot, dusted: DustedAmount) -> tuple[dict[Path, Any], dict[str, tuple[int, int]]]:
    """The limits that belong to an amount, scaled with it."""
    changes: dict[Path, Any] = {}
    limits: dict[str, tuple[int, int]] = {}
    pairs = ((spot.min_out_path, spot.min_out, dust.scale_least), (spot.max_in_path, spot.max_in, dust.scale_most))
    for path, value, scale in pairs:
        if path is None or value == _MAX or not dusted.is_scaled:
            continue
        try:
            old = read_units(value)
        except ValueError as error:
            raise _invalid(show_path(path), str(error)) from None
        changes[path] = scale(old, dusted)
        limits[show_path(path)] = (old, changes[path])
    return changes, limits


def _entry(
    spot: Spot, asset: Asset, found: _Found, limits: Mapping[str, tuple[int, int]], scene: Scene, *notes: str
) -> Entry:
    warnings = [*notes]
    if found.survey is not None and found.survey.warning is not None:
        warnings.append(found.survey.warning)
    if scene.override is not None:
        warnings.append("The amount is the node's own (dustAmount), not one cent's worth.")
    if found.price is None and found.dusted.original_units:
        warnings.append("No price source covers the asset; it counts as one dust_usd against the caps.")
    if found.dusted.units == 1 and found.dusted.is_scaled:
        warnings.append("One base unit is the minimum; it may be worth more than the target.")
    return Entry(
        spot.field,
        spot.movement.direction,
        asset,
        found.decimals,
        spot.recipient if isinstance(spot.recipient, str) else None,
        found.dusted,
        found.price,
        limits,
        tuple(warnings),
    )


def _word(address: str) -> str:
    return address[2:].lower().rjust(64, "0")
