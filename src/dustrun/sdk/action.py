"""The contract of an action: one decorated function in one file."""

from __future__ import annotations

import enum
import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from dustrun.core.money.intent import FundsMovement
from dustrun.core.workflow.specs import Origin
from dustrun.errors import Code, Invalid, Problem
from dustrun.records import dataclass
from dustrun.sdk.fields import hinted_fields
from dustrun.sdk.package import Package

# The effect of a node on the outside world, which decides what the modes (simulate, dust, live) do with it.


class Effect(enum.StrEnum):
    """`pure` computes · `read` reads · `write` changes something other than money · `spend` moves value or signs."""

    PURE = "pure"
    READ = "read"
    WRITE = "write"
    SPEND = "spend"


@dataclass(slots=True)
class Transmission:
    """How far came what an attempt sends, apart from what only reads. `sent`: its first byte left the server; `status`:
    the HTTP status of the answer, None as long as there is none."""

    sent: bool = False
    status: int | None = None


Run = Callable[[Any, Any], Any | Awaitable[Any]]
AsTool = Callable[[dict[str, Any], Any], "ToolShape | None"]
Finish = Callable[[Any, Any, Any, Any], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class ToolShape:
    """How a model sees an action: what it does, and the schema of its arguments, which become the input `field`."""

    about: str
    schema: dict[str, Any]
    field: str


@dataclass(frozen=True, slots=True)
class Action:
    """One action. `type` and `family` are set from the file's path when it is discovered."""

    run: Run
    effect: Effect
    input: type[BaseModel]
    output: type[BaseModel]
    example_input: dict[str, Any]
    example_output: dict[str, Any]
    idempotent: bool
    idempotent_of: Callable[[Any], bool] | None
    effect_of: Callable[[Any], Effect] | None
    effect_by: Callable[[Any, Any], Effect] | None
    preview: Callable[[Any], dict[str, Any]] | None
    host_of: Callable[[Any], str | None] | None
    tags: tuple[str, ...]
    raw_fields: frozenset[str]
    secret_fields: frozenset[str]
    is_async: bool
    funds_movement: tuple[FundsMovement, ...] = ()
    finish: Finish | None = None
    needs_wallet: bool | Callable[[Any], bool] = False
    connector: tuple[str, ...] = ()
    connector_optional: bool = False
    inside: bool = False
    sends_by_context: bool = False
    connector_instead_of: str | None = None
    as_rehearsed: Callable[[Any], bool] | None = None
    as_tool: AsTool | None = None
    origins: tuple[Origin, ...] = ()
    type: str = ""
    family: str = ""
    summary: str = ""
    description: str = ""
    package: Package | None = None
    """None of those that come with Dustrun, and of files in the operator's folder."""

    def effect_for(self, value: Any) -> Effect:
        """The effect of one resolved input, for actions whose effect depends on it."""
        return self.effect_of(value) if self.effect_of else self.effect

    def repeats_rehearsal(self, value: Any) -> bool:
        """Whether one resolved input wants a rehearsal's answer."""
        return self.as_rehearsed is not None and self.as_rehearsed(value)

    def wants_wallet(self, value: Any) -> bool:
        """Whether one resolved input needs `ctx.wallet`."""
        return self.needs_wallet(value) if callable(self.needs_wallet) else self.needs_wallet

    def is_idempotent(self, recorded_input: dict[str, Any] | None) -> bool:
        """Whether repeating it with the same idempotency key and this recorded input has no further effect."""
        if self.idempotent_of is None or recorded_input is None:
            return self.idempotent
        try:
            return self.idempotent_of(self.input.model_validate(recorded_input))
        except ValidationError:
            return False


def action(
    *,
    effect: Effect,
    input: type[BaseModel],
    output: type[BaseModel],
    example_input: dict[str, Any],
    example_output: dict[str, Any],
    idempotent: bool = False,
    idempotent_of: Callable[[Any], bool] | None = None,
    effect_of: Callable[[Any], Effect] | None = None,
    effect_by: Callable[[Any, Any], Effect] | None = None,
    preview: Callable[[Any], dict[str, Any]] | None = None,
    host_of: Callable[[Any], str | None] | None = None,
    funds_movement: Sequence[FundsMovement] = (),
    finish: Finish | None = None,
    needs_wallet: bool | Callable[[Any], bool] = False,
    connector: str | Sequence[str] = (),
    connector_optional: bool = False,
    inside: bool = False,
    sends_by_context: bool = False,
    connector_instead_of: str | None = None,
    as_rehearsed: Callable[[Any], bool] | None = None,
    as_tool: AsTool | None = None,
    origins: Sequence[Origin] = (),
    tags: Sequence[str] = (),
) -> Callable[[Run], Action]:
    """Declares an action.

    `effect` is the strongest one it can have; `effect_of(input)` narrows it for one resolved input, and
    `effect_by(input, connection)` for one that is a write, by the opened connector. `idempotent`:
    repeating it with the same `ctx.idempotency_key` has no further effect. `preview(input)` returns the outgoing
    request that a simulation shows. `host_of(input)` returns the external host, for the limit per host. A pure action
    may be a plain function; all others are coroutines. The function returns an `output` model.

    A `spend` action cannot sign: its function only reads, and returns a `Spend` of intents. `funds_movement` names the
    input fields with the amounts that it moves. `finish(input, spend, spent, ctx)` builds the `output` once the
    receipts are final, possibly after a restart. `needs_wallet`: `ctx.wallet` is available, or a function that decides
    it per input; always true for `spend`.

    `connector`: the connector types that a node accepts, or `http` for every type that adds a credential to HTTP
    requests. A node must have one unless `connector_optional`.

    `connector_instead_of`: the input field that replaces the connector; a node must have one of the two.

    `sends_by_context`: it sends only through `ctx.http` and `ctx.notify`. A simulation then runs a write up to its
    first request, and fails where a live run would before it sends.

    `inside`: it writes only to the server's own store, which a simulation overlays; so a simulation executes it, and no
    time limit or cancel interrupts it.

    `as_tool(payload, connection)`: how a model sees it if the inputs in `payload` are fixed; without it, or if that
    gives None, the model gives all other inputs.

    `origins`: the outside systems whose answers its result holds. They tell the owner of a wallet what shaped a spend;
    without them the action counts as a system of its own, if it has an effect.

    `as_rehearsed(input)`: outside of simulations it is not run, and its result is that of the run's rehearsal.
    """

    if (effect is Effect.SPEND) != (finish is not None):
        raise TypeError("only a spend action has a finish function, and it must have one")

    def declare(run: Run) -> Action:
        return Action(
            run=run,
            effect=effect,
            input=input,
            output=output,
            example_input=example_input,
            example_output=example_output,
            idempotent=idempotent,
            idempotent_of=idempotent_of,
            effect_of=effect_of,
            effect_by=effect_by,
            preview=preview,
            host_of=host_of,
            funds_movement=tuple(funds_movement),
            finish=finish,
            needs_wallet=True if effect is Effect.SPEND else needs_wallet,
            connector=(connector,) if isinstance(connector, str) else tuple(connector),
            connector_optional=connector_optional,
            inside=inside,
            sends_by_context=sends_by_context,
            connector_instead_of=connector_instead_of,
            as_rehearsed=as_rehearsed,
            as_tool=as_tool,
            origins=tuple(origins),
            tags=tuple(tags),
            raw_fields=hinted_fields(input, "x-raw"),
            secret_fields=hinted_fields(input, "x-secret"),
            is_async=inspect.iscoroutinefunction(run),
        )

    return declare


# Errors of actions whose input does not fit the state of the outside world.


def refuse(message: str, field: str) -> Invalid:
    """The error to raise; `field` is the path of the payload field, like `rows[3].amount`."""
    return _invalid(message, field, Code.ACTION_INPUT_INVALID)


def refuse_small(message: str, field: str) -> Invalid:
    """The error for an amount below the venue's minimum, which `message` names if it is known; a dust test then ends
    with `DUST_BELOW_MINIMUM`."""
    return _invalid(message, field, Code.AMOUNT_BELOW_MINIMUM)


def _invalid(message: str, field: str, code: Code) -> Invalid:
    text = message if message.endswith((".", "?", "!")) else f"{message}."
    text = text[:1].upper() + text[1:]
    return Invalid(text, code=code, details=[Problem(f"payload.{field}", text)])
