"""Starts a run when the result of a contract's view function changes.

Use it for state that changes without an event: an owner, a rate, a balance in a pool. `condition` is an expression over
`old` and `new`, the results of the last two polls, like `int(new) > int(old)`; without it, every change counts. Two
changes between two polls count as one, and a change that a reorg undoes counts as another change: use `evm-log` if no
change may be missed. An endpoint that is behind, and still has the result from before a change, is not believed. The
first poll starts nothing, unless `fireOnFirst` is true, which passes `old` as null.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field, ValidationInfo, field_validator

from dustrun.clock import to_rfc3339
from dustrun.core.evm.abi import AbiFault, Function, read_args
from dustrun.core.evm.calls import find_function, show_result
from dustrun.core.expression import ExpressionError
from dustrun.core.triggers.polling import compile_over
from dustrun.core.values import exact_json
from dustrun.errors import DustrunError, Invalid, Temporary
from dustrun.sdk import Finding, Polled, PolledConfig, PolledEvent, TriggerContext
from dustrun.sdk.chain import ChainCall
from dustrun.sdk.fields import raw
from dustrun.sdk.trigger import polled
from dustrun.triggers._event_output import EventOutput, example_output
from dustrun.triggers.chain.chain_config import USDC, Address, ChainId, check_chain
from dustrun.triggers.polled.poll_interval import too_often

_NAMES = ("old", "new")
_MOST_RESULT = 65_536


class CallConfig(PolledConfig):
    """The call of a view function."""

    chain_id: ChainId
    contract: Address = Field(description="Address of the contract.")
    abi: Any = Field(None, description="The JSON ABI of the contract: a list, a single entry, or a compiler artifact.")
    function: str = Field(
        min_length=1,
        max_length=2000,
        description="The function: `balanceOf(address) returns (uint256)`, or its name in `abi`. It must say what it "
        "returns.",
    )
    args: list[Any] | dict[str, Any] = Field(
        [], description="The arguments in order, or by name; large numbers as strings of digits."
    )

    @field_validator("function")
    @classmethod
    def _check_function(cls, text: str, info: ValidationInfo) -> str:
        try:
            found = find_function(text, info.data.get("abi"))
        except AbiFault as fault:
            raise ValueError(fault.message) from None
        if not found.outputs:
            raise ValueError(f"{found.signature} does not say what it returns, like `returns (uint256)`")
        if found.mutability in ("payable", "nonpayable"):
            raise ValueError(f"{found.signature} is {found.mutability}; only a view can be watched")
        return text

    @field_validator("args")
    @classmethod
    def _check_args(cls, args: Any, info: ValidationInfo) -> Any:
        if "function" in info.data:
            function = find_function(info.data["function"], info.data.get("abi"))
            try:
                function.encode(*read_args(function.inputs, args, "args"))
            except AbiFault as fault:
                raise ValueError(f"{fault.field or 'args'}: {fault.message}") from None
        return args

    @property
    def called(self) -> tuple[Function, bytes]:
        """The function and its calldata."""
        function = find_function(self.function, self.abi)
        return function, function.encode(*read_args(function.inputs, self.args, "args"))


class Config(CallConfig):
    """The call, and which changes count."""

    condition: str | None = raw(
        None, max_length=4000, description="An expression over `old` and `new`; null: every change counts."
    )

    @field_validator("condition")
    @classmethod
    def _check_condition(cls, text: str | None) -> str | None:
        if text is not None:
            compile_over(text, _NAMES)
        return text


class Output(EventOutput):
    """A change."""

    chain_id: int = Field(description="The chain.")
    contract: str = Field(description="The contract.")
    function: str = Field(description="The function's signature.")
    old: Any = Field(description="The previous result; null at the first poll.")
    new: Any = Field(description="The result now; an object by name if there are several.")
    block_number: int = Field(description="The newest block when it was seen.")
    seen_at: str = Field(description="When it was seen, RFC 3339.")


async def read(ctx: TriggerContext, config: CallConfig, seen: int = 0) -> tuple[Any, int]:
    """The result at the newest block, and that block. Raises `DustrunError`, also if a newer block was `seen` before:
    many endpoints are several machines, and one of them may be behind."""
    chain, (function, data) = ctx.chain(config.chain_id), config.called
    block = await chain.block()
    if block.number < seen and not chain.network.is_local:
        raise Temporary(f"The endpoint's newest block is {block.number}; the last change was seen at block {seen}.")
    answer = await chain.call(ChainCall(config.contract, data, is_view=True), block.hash)
    try:
        value, _ = show_result(function, answer)
    except AbiFault as fault:
        where = "" if answer else f"; is there a contract at {config.contract}?"
        raise Invalid(
            f"The result of {function.signature} does not match its signature: {fault.message}{where}"
        ) from None
    text = exact_json.dumps(value)
    if len(text) > _MOST_RESULT:
        raise Invalid(f"The result of {function.signature} is longer than {_MOST_RESULT} bytes.")
    return exact_json.loads(text), block.number  # as it comes back from a cursor


async def _check(ctx: TriggerContext, config: Config) -> list[Finding]:
    found = too_often(ctx, config) + await check_chain(ctx, config.chain_id, [("contract", config.contract)])
    if any(one.severity == "error" for one in found):
        return found
    try:
        value, _ = await read(ctx, config)
        if config.condition is not None and not isinstance(_value(config.condition, value, value), bool):
            found.append(Finding("condition", "Must be true or false, like `new != old`."))
    except Temporary as error:
        found.append(Finding("function", f"could not be called now: {error.message}", "warning"))
    except ExpressionError as error:
        found.append(Finding("condition", f"does not fit the result: {error}"))
    except DustrunError as error:
        found.append(Finding("function", error.message))
    return found


def _value(condition: str, old: Any, new: Any) -> Any:
    return compile_over(condition, _NAMES).value(old=old, new=new)


def _payload(config: Config, old: Any, new: Any, block: int, now: int) -> dict[str, Any]:
    return {
        "chainId": config.chain_id,
        "contract": config.contract,
        "function": config.called[0].signature,
        "old": old,
        "new": new,
        "blockNumber": block,
        "seenAt": to_rfc3339(now),
    }


async def _recent(ctx: TriggerContext, config: Config) -> dict[str, Any] | None:
    new, block = await read(ctx, config)
    return _payload(config, None, new, block, ctx.now_ms)


_EXAMPLE = {
    "chainId": 1,
    "contract": USDC,
    "function": "paused()",
    "old": False,
    "new": True,
    "blockNumber": 22000000,
    "seenAt": "2026-01-31T12:00:00.000Z",
}


@polled(
    config=Config,
    output=Output,
    check=_check,
    recent=_recent,
    example_config={
        "chainId": 1,
        "contract": USDC,
        "function": "paused() view returns (bool)",
        "condition": "new == true",
        "pollMs": 30000,
    },
    example_output=example_output(_EXAMPLE, "evm-call-changed"),
)
async def poll(ctx: TriggerContext, config: Config, cursor: Any) -> Polled:
    """Calls, and compares with the result before."""
    old, seen = (None, 0) if cursor is None else (cursor["value"], cursor.get("block", 0))
    (new, block), now = await read(ctx, config, seen), ctx.now_ms
    after = {"value": new, "block": block} if cursor is None or old != new else cursor
    if (not config.fire_on_first) if cursor is None else old == new:
        return Polled((), after)
    if config.condition is not None:
        try:
            if _value(config.condition, old, new) is not True:
                return Polled((), after)
        except ExpressionError as error:
            raise Invalid(f"`condition` does not fit the results: {error}") from None
    return Polled([PolledEvent(str(now), _payload(config, old, new, block, now), now)], after)
