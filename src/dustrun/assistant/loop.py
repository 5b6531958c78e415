"""One turn: ask the model, carry out its calls, and ask again, until it is done or may not go on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from dustrun import log
from dustrun.assistant.budget import Exceeded
from dustrun.assistant.history import SYSTEM, read_history
from dustrun.assistant.model_access import ModelAccess
from dustrun.assistant.record import Event, Json, KeyEnded, Record
from dustrun.assistant.toolbox import Toolbox, ToolResult
from dustrun.core.text.redaction import hide
from dustrun.core.values.exact_json import dumps_text, loads
from dustrun.errors import Code, DustrunError
from dustrun.log import mask_text
from dustrun.sdk.llm.asking import ask
from dustrun.sdk.llm.messages import Answer, Ask, Called
from dustrun.services.access.principal import Principal
from dustrun.services.connectors.read_hosts import spoken_hosts
from dustrun.storage.db.database import Database

_logger = log.get(__name__)
_MOST_ARGS: Final = 131_072
_MOST_OUTPUT: Final = 4_000
_MOST_CALLS_AT_ONCE: Final = 10


@dataclass(frozen=True, slots=True)
class Work:
    """What a turn needs. `principal` is the assistant's, which may do less than its key; `spoken`: what the person
    asked."""

    database: Database
    record: Record
    toolbox: Toolbox
    principal: Principal
    access: ModelAccess
    model: str
    about: str
    spoken: tuple[str, ...]


async def run(work: Work) -> None:
    """Carries the turn out to its end, whatever happens."""
    record = work.record
    spoken_hosts.set(work.spoken)  # of this task alone
    try:
        while not await _step(work):
            pass
        await record.finish(None)
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


async def _step(work: Work) -> bool:
    """One request and its calls; whether that was the end."""
    turn, budget = work.record.turn, work.record.budget
    budget.begin_request()
    await work.record.add([], [])  # what it may cost is on disk before it is asked
    parts = await work.database.read(lambda tx: read_history(tx, turn.conversation_id, turn.message_id, turn.key_id))
    offers = tuple(work.toolbox.offers(work.principal))
    asked = Ask(work.model, SYSTEM + work.about, parts, budget.left, _MOST_OUTPUT, tools=offers)
    answer = await ask(work.access.http, work.access.connection, asked)
    budget.settle(answer)
    calls = _numbered(answer, budget.requests)
    await _keep(work, answer, calls)
    for call in calls:
        budget.begin_call(dumps_text([call.tool, call.args]))
        await _carry_out(work, call)
    if not calls and answer.stopped_by == "length":
        raise Exceeded("BUDGET", "The model's answer was cut off at the limit of its length.")
    return not calls


def _numbered(answer: Answer, request: int) -> list[Called]:
    """The calls with ids of our own, since a model may repeat its own, and with arguments of bounded size."""
    found = []
    for at, call in enumerate(answer.calls[:_MOST_CALLS_AT_ONCE]):
        args = call.args if len(dumps_text(call.args)) <= _MOST_ARGS else "(too large)"
        found.append(Called(f"c{request}-{at + 1}", call.tool[:100], args))
    return found


async def _keep(work: Work, answer: Answer, calls: list[Called]) -> None:
    parts: list[Json] = [{"type": "text", "text": answer.text}] if answer.text else []
    events: list[Event] = [("text_delta", {"text": answer.text})] if answer.text else []
    for call in calls:
        parts.append({"type": "tool_call", "callId": call.call_id, "tool": call.tool, "args": call.args})
    await work.record.add(parts, events)


async def _carry_out(work: Work, call: Called) -> None:
    started = {"callId": call.call_id, "tool": call.tool, "args": _short(call.args)}
    await work.record.add([], [("tool_started", started)])
    result = await _call(work, call)
    parts: list[Json] = [
        {
            "type": "tool_result",
            "callId": call.call_id,
            "tool": call.tool,
            "ok": result.ok,
            "trust": "untrusted",
            "content": result.text,
        }
    ]
    events: list[Event] = [("tool_finished", {"callId": call.call_id, "ok": result.ok})]
    run_id = _run_of(call, result)
    if run_id is not None:
        parts.append({"type": "run", "runId": run_id, "mode": "simulate"})
        events.insert(0, ("run_linked", {"runId": run_id, "mode": "simulate"}))
    await work.record.add(parts, events)


async def _call(work: Work, call: Called) -> ToolResult:
    if not isinstance(call.args, dict):
        return ToolResult(False, '{"message":"The arguments must be a JSON object of at most 128 KiB."}')
    return await work.toolbox.call(work.principal, call.tool, call.args, work.record.turn.message_id)


def _run_of(call: Called, result: ToolResult) -> str | None:
    if call.tool != "simulate" or not result.ok:
        return None
    found = loads(result.text).get("runId")
    return found if isinstance(found, str) else None


def _short(args: Any) -> Any:
    """Arguments as an event shows them; the message has them whole."""
    return args if len(dumps_text(args)) <= 2_000 else {"cut": True}
