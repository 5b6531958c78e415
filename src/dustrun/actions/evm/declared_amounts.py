"""Amounts that a contract call takes, as its author declares them: counted by the policy, scaled by a dust test."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from pydantic import Field, model_validator

from dustrun.actions.evm.coins import read_coin
from dustrun.actions.evm.fields import Units
from dustrun.core.money.intent import FundsMovement, Movement
from dustrun.sdk import Fields
from dustrun.sdk.chain import Chain

TAKES: Final = FundsMovement(
    "send", "amounts[].units", token_field="amounts[].token", min_out_field="amounts[].minimumUnits"
)
_FILLED: Final = (("argument", "units"), ("minimum", "minimumUnits"))


class DeclaredAmount(Fields):
    """One argument that says how much of a token the call takes from the wallet."""

    argument: str = Field(
        min_length=1, max_length=200, description="The argument: its name or index, `params.amountIn` within a tuple."
    )
    token: str = Field(max_length=100, description="The token taken: its address, or a symbol from the chain's file.")
    units: Units | None = Field(
        None, description="The amount in base units, put in place of the argument; by default the argument's value."
    )
    minimum: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description=(
            "The argument that says what the call must give for it at least (`minShares`); a dust test scales it in "
            "proportion to the amount, rounded down."
        ),
    )
    minimum_units: Units | None = Field(
        None, description="That minimum, put in place of its argument; by default the argument's value."
    )


class CallFields(Fields):
    """The arguments of a call and the amounts among them."""

    args: list[Any] | dict[str, Any] = Field([], description="The arguments, in order or by name.")
    amounts: list[DeclaredAmount] | None = Field(
        None,
        max_length=10,
        description=(
            "The arguments that are amounts of tokens that the call takes; `[]`: it takes none. A dust test scales "
            "them, and checks before it signs that the call takes no more. Native `value` needs no entry."
        ),
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_amounts(cls, given: Any) -> Any:
        """An amount without units takes the argument's value; one with units, as a dust test sets them, replaces it. So
        does its minimum.
        """
        if not isinstance(given, dict) or not isinstance(given.get("amounts"), list | tuple):
            return given
        if not isinstance(given.get("args", []), list | dict):
            return given  # an expression, in a definition that is only checked
        return _filled(given)

    @classmethod
    def complete(cls, wire: Mapping[str, Any]) -> Mapping[str, Any]:
        """The amounts take what is known of their arguments; the run says what is wrong with its input."""
        if not isinstance(wire.get("amounts"), list | tuple) or not isinstance(wire.get("args"), list | dict | tuple):
            return wire
        try:
            return _filled(wire)
        except ValueError:
            return wire


def _filled(given: Mapping[str, Any]) -> dict[str, Any]:
    """An input whose declared amounts have their units; those that only the run knows stay `Unknown`. Raises
    `ValueError` for an argument that there is not.
    """
    filled = copy.deepcopy(dict(given))
    for declared in filled["amounts"]:
        for argument, units in _FILLED if isinstance(declared, dict) else ():
            if isinstance(declared.get(argument), str):
                _fill(filled.get("args", []), declared, argument, units)
    return filled


def _fill(args: Any, declared: dict[str, Any], argument: str, units: str) -> None:
    place, last = _find(args, declared[argument])
    if declared.get(units) is None:
        is_expression = isinstance(place[last], str) and "{{" in place[last]
        declared[units] = None if is_expression else place[last]
    else:
        place[last] = str(declared[units])


def _find(args: Any, argument: str) -> tuple[Any, Any]:
    """The list or object that holds an argument, and its place in there."""
    place: Any = [args]
    last: Any = 0
    for step in argument.split("."):
        place = place[last]
        last = int(step) if isinstance(place, list) and step.isdigit() else step
        if not _has(place, last):
            hint = "arguments in order are named by their index" if isinstance(place, list) else "see args"
            raise ValueError(f'amounts: there is no argument "{argument}"; {hint}')
    return place, last


def _has(place: Any, name: Any) -> bool:
    if isinstance(place, list):
        return isinstance(name, int) and name < len(place)
    return isinstance(place, dict) and name in place


async def declared_movements(
    chain: Chain, amounts: Iterable[DeclaredAmount] | None, known: Sequence[Movement], counterparty: str
) -> tuple[Movement, ...]:
    """The declared amounts as movements, without those of assets that the calldata itself is known to send."""
    found: list[Movement] = []
    for place, declared in enumerate(amounts or ()):
        coin = await read_coin(chain, declared.token, f"amounts[{place}].token")
        if any(one.kind == "send" and one.asset == coin.asset for one in known):
            continue
        found.append(Movement("send", coin.asset, declared.units or 0, counterparty))
    return tuple(found)
