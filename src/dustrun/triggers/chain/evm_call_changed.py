"""Starts a run when the result of a contract's view function changes.

The function is called every `pollMs`, at the newest block. `condition` is an expression over `old` and `new`, like
`new < 100 && old >= 100`; without it every change counts. `old` is what the last poll read, so what changes and changes
back between two polls is not seen. Integers are exact in the condition and strings in the payload; several return
values are an object by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import Field, ValidationInfo, field_validator

from dustrun.core.evm.abi import AbiFault, Function, read_args, show
from dustrun.core.evm.abi_signatures import parse_function
from dustrun.core.expression import DEFAULT_LIMITS, ExpressionError, parse_expression
from dustrun.core.triggers.chain.event_filter import sample
from dustrun.sdk import Fields
from dustrun.sdk.chain import ChainCall
from dustrun.sdk.fields import raw
from dustrun.sdk.trigger import Finding, Polled, PolledEvent, TriggerConfig, TriggerContext, polled
from dustrun.triggers.chain.chain_config import Address, ChainId, check_chain, example_output

_NAMES = ("old", "new")


class Config(TriggerConfig):
    """The call, how often it is made, and which changes count."""

    chain_id: ChainId
    contract: Address = Field(description="The contract.")
    function: str = Field(
        min_length=3,
        max_length=2000,
        description="The function with its return types: `balanceOf(address) returns (uint256)`.",
    )
    args: list[Any] = Field([], description="The arguments in order; large numbers as strings of digits.")
    poll_ms: int = Field(15_000, ge=100, le=86_400_000, description="Milliseconds between two polls.")
    condition: str | None = raw(
        None, max_length=4000, description="An expression over `old` and `new`; null: every change counts."
    )

    @field_validator("function")
    @classmethod
    def _check_function(cls, text: str) -> str:
        try:
            function = parse_function(text)
        except AbiFault as fault:
            raise ValueError(fault.message) from None
        if not function.outputs:
            raise ValueError(f"{function.name} returns nothing: add its return types, like returns (uint256)")
        return text

    @field_validator("args")
    @classmethod
    def _check_args(cls, values: list[Any], info: ValidationInfo) -> list[Any]:
        if "function" in info.data:
            try:
                read_args(parse_function(info.data["function"]).inputs, values)
            except AbiFault as fault:
                raise ValueError(f"{fault.field} {fault.message}".strip()) from None
        return values

    @field_validator("condition")
    @classmethod
    def _check_condition(cls, text: str | None, info: ValidationInfo) -> str | None:
        if text is not None and "function" in info.data:
            _check_expression(text, parse_function(info.data["function"]))
        return text


class Output(Fields):
    """One change."""

    body: dict[str, Any] = Field(description="The whole payload.")
    headers: dict[str, str] = Field(description="Empty; for webhooks.")
    query: dict[str, str] = Field(description="Empty; for webhooks.")
    source: str = Field(description="What started the run.")
    triggered_at: str = Field(description="Start time, RFC 3339.")
    chain_id: int = Field(description="The chain.")
    contract: str = Field(description="The contract.")
    function: str = Field(description="The function's name.")
    old: Any = Field(description="The result before.")
    new: Any = Field(description="The result now.")
    block_number: int = Field(description="The newest block just before the call.")


@dataclass(frozen=True, slots=True)
class _Roots:
    values: Mapping[str, Any]

    def root(self, name: str) -> Any:
        return self.values[name]


def _check_expression(text: str, function: Function) -> None:
    try:
        template = parse_expression(text)
        for found in template.references:
            if found.root not in _NAMES:
                raise ValueError(f'there is no "{found.root}"; the condition can use old and new')
        example = _named(function, [sample(param.kind, param.parts) for param in function.outputs or ()])
        value = template.evaluate(_Roots({"old": example, "new": example}), DEFAULT_LIMITS)
    except ExpressionError as error:
        if error.kind in ("syntax", "type", "missing"):
            raise ValueError(str(error)) from None
        return
    if not isinstance(value, bool):
        raise ValueError("must be true or false, like new > old")


def _named(function: Function, values: list[Any]) -> Any:
    """The result as the condition sees it: one value, or several by name or index."""
    outputs = function.outputs or ()
    if len(values) == 1:
        return values[0]
    return {param.name or str(place): value for place, (param, value) in enumerate(zip(outputs, values, strict=True))}


def _shown(function: Function, values: list[Any]) -> Any:
    outputs = function.outputs or ()
    if len(values) == 1:
        return show(outputs[0], values[0])
    return {
        param.name or str(place): show(param, value)
        for place, (param, value) in enumerate(zip(outputs, values, strict=True))
    }


async def _check(ctx: TriggerContext, config: Config) -> list[Finding]:
    if config.poll_ms < ctx.min_interval_ms:
        return [Finding("pollMs", f"must be at least {ctx.min_interval_ms}, the shortest interval of this server")]
    return await check_chain(ctx, config.chain_id, [("contract", config.contract)])


_EXAMPLE = {
    "chainId": 1,
    "contract": "0xB4e16d0168e52d35CaCD2c6185b44281Ec28C9Dc",
    "function": "totalSupply",
    "old": "1000000000000000000",
    "new": "1500000000000000000",
    "blockNumber": 22000000,
}


@polled(
    interval_ms=lambda config: config.poll_ms,
    config=Config,
    output=Output,
    check=_check,
    example_config={
        "chainId": 1,
        "contract": "0xB4e16d0168e52d35CaCD2c6185b44281Ec28C9Dc",
        "function": "totalSupply() view returns (uint256)",
        "pollMs": 15000,
        "condition": "new > old",
    },
    example_output=example_output(_EXAMPLE, "evm-call-changed"),
)
async def poll(ctx: TriggerContext, config: Config, cursor: Any) -> Polled:
    """Calls the function; the cursor holds its last return data, and how many events came of it."""
    function, chain = parse_function(config.function), ctx.chain(config.chain_id)
    block = await chain.block()
    data = await chain.call(
        ChainCall(config.contract, function.encode(*read_args(function.inputs, config.args)), is_view=True)
    )
    new = function.decode_result(data)
    seen: dict[str, Any] = {"data": data.hex(), "events": 0 if cursor is None else cursor["events"]}
    if cursor is None or cursor["data"] == seen["data"]:
        return Polled([], seen)
    old = function.decode_result(bytes.fromhex(cursor["data"]))
    if config.condition is not None:
        roots = _Roots({"old": _named(function, old), "new": _named(function, new)})
        if parse_expression(config.condition).evaluate(roots, DEFAULT_LIMITS) is not True:
            return Polled([], seen)
    seen["events"] += 1
    payload = {
        "chainId": config.chain_id,
        "contract": config.contract,
        "function": function.name,
        "old": _shown(function, old),
        "new": _shown(function, new),
        "blockNumber": block.number,
    }
    key = f"{config.chain_id}:{config.contract}:{seen['events']}:{block.number}"
    return Polled([PolledEvent(key, payload, ctx.now_ms)], seen)
