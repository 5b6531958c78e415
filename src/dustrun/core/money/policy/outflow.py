"""A ceiling on what a transaction takes from its wallet by balances, whatever its calldata says. Pure.

Two ceilings apply, each if there is one: the policy's `outflow`, and the dust cap of a dust test. An amount that nobody
declared and an allowance that nobody asked for are denied by both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field

from dustrun.core.money.intent import Movement
from dustrun.core.money.policy.counting import Worth, canonical
from dustrun.core.money.policy.document import Outflow, usd_units
from dustrun.core.money.policy.judge import show
from dustrun.core.money.policy.verdict import Reason
from dustrun.core.values.amounts import Asset
from dustrun.records import dataclass

_USD = "usd"


@dataclass(frozen=True, slots=True)
class RaisedAllowance:
    """An allowance that a transaction raises: the token's address, the spender, base units before and after."""

    token: str
    spender: str
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class TakenAmounts:
    """A transaction's take from its sender: base units by asset key (NFTs by `eip155:1/erc721:0x…/7`), network fee
    excluded, and the allowances that it raises. `unread`: balances that could not be read."""

    units: Mapping[str, int] = field(default_factory=dict)
    raised: tuple[RaisedAllowance, ...] = ()
    unread: int = 0

    @property
    def assets(self) -> tuple[Asset, ...]:
        """The fungible assets taken."""
        return tuple(Asset.parse(key) for key in self.units if Asset.is_key(key))


@dataclass(frozen=True, slots=True)
class Ceilings:
    """The bounds of a transaction: the policy's statement, the cap of a dust test in 1e-18 dollars, and what
    passes only if nothing leaves (see `find_unproven`)."""

    rule: Outflow | None
    dust_cap: int | None
    unproven: tuple[Reason, ...] = ()

    def __bool__(self) -> bool:
        return self.rule is not None or self.dust_cap is not None or bool(self.unproven)


def judge_outflow(
    ceilings: Ceilings, taken: TakenAmounts, declared: Sequence[Movement], worths: Mapping[str, Worth]
) -> tuple[Reason, ...]:
    """Every reason why the transaction takes too much; empty if it may be signed."""
    return tuple(_reasons(ceilings, taken, declared, worths))


def _reasons(
    ceilings: Ceilings, taken: TakenAmounts, declared: Sequence[Movement], worths: Mapping[str, Worth]
) -> Iterator[Reason]:
    rule, cap = ceilings.rule, ceilings.dust_cap
    if taken.unread:
        yield Reason("outflow", f"{taken.unread} balances of the wallet could not be read.")
    if taken.units or taken.raised:
        yield from ceilings.unproven
    if cap is not None or (rule is not None and not rule.beyond_declared):
        yield from _undeclared(taken, declared)
    if cap is not None or (rule is not None and not rule.allowances_beyond_declared):
        yield from _allowances(taken, declared)
    if rule is not None:
        yield from _units(rule, taken)
        if rule.max_usd is not None:
            named = {canonical(Asset.parse(key)) for key in rule.assets}
            yield from _worth("outflow.maxUsd", usd_units(rule.max_usd), taken, worths, named)
    if cap is not None:
        declared_keys = {canonical(movement.asset) for movement in declared}
        yield from _worth("dust", cap, taken, worths, declared_keys)


def _undeclared(taken: TakenAmounts, declared: Sequence[Movement]) -> Iterator[Reason]:
    for key, units in sorted(taken.units.items()):
        most = sum(one.amount_units for one in declared if one.kind == "send" and _is_of(one, key))
        if units > most:
            yield Reason(
                "outflow.beyondDeclared",
                f"The transaction takes {units} base units of {key}, and the node declares {most}.",
            )


def _allowances(taken: TakenAmounts, declared: Sequence[Movement]) -> Iterator[Reason]:
    for one in taken.raised:
        most = max((each.amount_units for each in declared if _allows(each, one)), default=0)
        if one.after > most:
            message = (
                f"The transaction lets {one.spender} take {one.after} base units of {one.token} (now {one.before}), "
                f"and the node declares {most}."
            )
            yield Reason("outflow.allowancesBeyondDeclared", message)


def _units(rule: Outflow, taken: TakenAmounts) -> Iterator[Reason]:
    for key, most in sorted(rule.assets.items()):
        units = taken.units.get(canonical(Asset.parse(key)), 0)
        if units > int(most):
            message = f"The transaction takes {units} base units of {key}, over {most}."
            yield Reason(f"outflow.assets.{key}", message)


def _worth(
    statement: str, most: int, taken: TakenAmounts, worths: Mapping[str, Worth], bounded: set[str]
) -> Iterator[Reason]:
    """The sum in dollars. Without a price only what is `bounded` in base units elsewhere may leave, and only fungible
    assets have one."""
    total = 0
    for key, units in sorted(taken.units.items()):
        if key in worths:
            total += worths[key].of(units)
        elif key not in bounded and Asset.is_key(key):
            yield Reason(statement, f"The transaction takes {units} base units of {key}, which has no price.")
    if total > most:
        yield Reason(statement, f"The transaction takes {show(_USD, total)}, over {show(_USD, most)}.")


def _is_of(movement: Movement, key: str) -> bool:
    """Whether a movement declares an asset; one of an NFT names its collection."""
    if Asset.is_key(key):
        return canonical(movement.asset) == key
    token = key.split(":")[2].split("/")[0]
    return movement.asset.token is not None and movement.asset.token.lower() == token.lower()


def _allows(movement: Movement, raised: RaisedAllowance) -> bool:
    return (
        movement.kind == "approve"
        and movement.asset.token is not None
        and movement.asset.token.lower() == raised.token.lower()
        and movement.counterparty.lower() == raised.spender.lower()
    )
