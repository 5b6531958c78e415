"""One turn: ask the model, carry out its calls, and ask again, until it is done or may not go on."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

from dustrun import log
from dustrun.assistant.budget import Exceeded
from dustrun.assistant.history import SYSTEM, read_history
from dustrun.assistant.model_access import ModelAccess
from dustrun.assistant.record import Event, Json, KeyEnded, Record, TurnEnded
from dustrun.assistant.toolbox import Question, Toolbox, ToolResult
from dustrun.assistant.turn_rows import cost_of_others
from dustrun.assistant.writing import Writing
from dustrun.core.text.redaction import hide
from dustrun.core.values.exact_json import dumps_text, loads
from dustrun.errors import Code, DustrunError
from dustrun.log import mask_text
from dustrun.records import dataclass
from dustrun.sdk.llm.asking import ask, most_input
from dustrun.sdk.llm.messages import Answer, Ask, Called
from dustrun.services.access.principal import Principal
from dustrun.services.connectors.read_hosts import spoken_hosts
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx

_logger = log.get(__name__)
_MOST_ARGS: Final = 131_072
_MOST_OUTPUT: Final = 4_000
_MOST_CALLS_AT_ONCE: Final = 10


@dataclass(frozen=True, slots=True)
class Work:
    """What a turn needs. `principal` is the assistant's, which may do less than its key; `spoken`: what the person
    asked; `left`: calls of the model's last answer that are still to be carried out."""

    database: Database
    record: Record
    toolbox: Toolbox
    principal: Principal
    access: ModelAccess
    model: str
    about: str
    spoken: tuple[str, ...]
    left: tuple[Called, ...] = ()


async def run(work: Work) -> bool:
    """Carries the turn out to its end, whatever happens, or until it waits for a person (True)."""
    spoken_hosts.set(work.spoken)  # of this task alone
    return await ending(work.record, _carry_on(work))


async def ending(record: Record, work: Awaitable[bool]) -> bool:
    """Does a part of a turn; if it fails, the turn ends with the reason."""
    try:
        return await work
    except TurnEnded:
        record.show()
    except Exceeded as error:
        await record.finish(error.code, error.message)
    except KeyEnded:
        await record.finish("INTERRUPTED", "The key in whose name the turn ran is no longer valid.")
    except DustrunError as error:
        is_budget = error.code in (Code.MODEL_OVER_BUDGET, Code.MODEL_UNPRICED)
        await record.finish("BUDGET" if is_budget else "MODEL", hide(mask_text(error.message))[:500])
    except Exception as error:
        _logger.error("a turn failed unexpectedly", message=record.turn.message_id, exc_info=error)
        await record.finish("MODEL", "It failed unexpectedly; see the server's log.")
    return False


async def _carry_on(work: Work) -> bool:
    calls = list(work.left)
    while True:
        for call in calls:
            if await _carry_out(work, call):
                return True
        answer = await _ask(work)
        calls = _numbered(work, answer)
        if calls:
            parts = [{"type": "tool_call", "callId": one.call_id, "tool": one.tool, "args": one.args} for one in calls]
            await work.record.add(parts, [])
        if not calls and answer.stopped_by == "length":
            raise Exceeded("BUDGET", "The model's answer was cut off at the limit of its length.")
        if not calls:
            await work.record.finish(None)
            return False


async def _ask(work: Work) -> Answer:
    """One request to the model."""
    turn, budget = work.record.turn, work.record.budget
    parts = await work.database.read(lambda tx: read_history(tx, turn.conversation_id, turn.message_id, turn.key_id))
    offers = tuple(work.toolbox.offers(work.principal))
    asked = Ask(work.model, SYSTEM + work.about, parts, Decimal(0), _MOST_OUTPUT, tools=offers)
    price = work.access.connection.data.price_of(work.model)
    most = price.cost(most_input(asked), _MOST_OUTPUT)
    await work.record.begin_request(most, cost_of_others)  # what it may cost is on disk before it is asked
    asked = replace(asked, most_usd=budget.reserved)
    writing = Writing(work.record, work.access.http.masked)
    try:
        answer = await ask(work.access.http, work.access.connection, asked, writing.add)
    except DustrunError:
        if writing.heard_bytes:  # it was asked, and its own count never came: at most this
            budget.settle_cut(price.cost(most_input(asked), writing.heard_bytes))
        raise
    budget.settle(answer)
    await writing.finish(answer.text)
    return answer


def _numbered(work: Work, answer: Answer) -> list[Called]:
    """The calls with ids of our own, since a model may repeat its own, and with arguments of bounded size."""
    found, http = [], work.access.http
    for at, call in enumerate(answer.calls[:_MOST_CALLS_AT_ONCE]):
        args = http.masked_value(call.args) if len(dumps_text(call.args)) <= _MOST_ARGS else "(too large)"
        found.append(Called(f"c{work.record.budget.requests}-{at + 1}", http.masked(call.tool[:100]), args))
    return found


async def _carry_out(work: Work, call: Called) -> bool:
    """Makes a call; True if it asked a person, whose decision is its result."""
    work.record.budget.begin_call(dumps_text([call.tool, call.args]))
    started = {"callId": call.call_id, "tool": call.tool, "args": _short(call.args)}
    await work.record.add([], [("tool_started", started)])
    result = await _call(work, call)
    if result.waits:
        work.record.show()
        return True
    parts, events = returned(call.call_id, call.tool, result)
    run_id = _run_of(call, result)
    if run_id is not None:
        parts.append({"type": "run", "runId": run_id, "mode": "simulate"})
        events.insert(0, ("run_linked", {"runId": run_id, "mode": "simulate"}))
    await work.record.add(parts, events)
    return False


def returned(call_id: str, tool: str, result: ToolResult) -> tuple[list[Json], list[Event]]:
    """A call's result as a part and as an event."""
    about = {"callId": call_id, "tool": tool, "ok": result.ok, "trust": "untrusted"}
    part = {"type": "tool_result", **about, "content": result.text}
    return [part], [("tool_finished", {"callId": call_id, "ok": result.ok})]


async def _call(work: Work, call: Called) -> ToolResult:
    if not isinstance(call.args, dict):
        return ToolResult(False, '{"message":"The arguments must be a JSON object of at most 128 KiB."}')
    record = work.record

    def ask_person(tx: Tx, question: Question) -> None:
        record.ask_person(tx, call.call_id, question)

    return await work.toolbox.call(work.principal, call.tool, call.args, record.turn.message_id, ask_person)


def _run_of(call: Called, result: ToolResult) -> str | None:
    if call.tool != "simulate" or not result.ok:
        return None
    found = loads(result.text).get("runId")
    return found if isinstance(found, str) else None


def _short(args: Any) -> Any:
    """Arguments as an event shows them; the message has them whole."""
    return args if len(dumps_text(args)) <= 2_000 else {"cut": True}
