"""The tools of an `llm` node: each call is an action, carried out as a node of the run would be, if it only reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from pydantic import ValidationError

from dustrun.catalog import Catalog
from dustrun.core.text.wording import explain, without_unseen
from dustrun.core.validate import field_path
from dustrun.core.values.exact_json import dumps_text
from dustrun.core.workflow.definition import Node
from dustrun.core.workflow.model_tools import LLM, ModelTool, OfferedTool
from dustrun.engine.node import node as nodes
from dustrun.engine.node.context import NodeContext
from dustrun.engine.node.outcome import Failed, Job, Outcome, Settled
from dustrun.engine.node.secrets import Secrets
from dustrun.errors import DustrunError, Invalid, Refused
from dustrun.outbound.resolver import parse
from dustrun.sdk import Action, Connection, Effect, ToolShape
from dustrun.sdk.context import CheckingHttp, ToolAnswer
from dustrun.sdk.notice import CheckingNotifier
from dustrun.sdk.threads import run_beside, run_sized

_MOST_CHARS: Final = 16_000
_MOST_PROBLEMS: Final = 10
_CUT: Final = "… (cut)"


class RunModelTools:
    """Carries out what the model of one node calls. `make_context`: makes a `ctx` for each call."""

    def __init__(
        self,
        catalog: Catalog,
        secrets: Secrets,
        http: CheckingHttp,
        notifier: CheckingNotifier,
        job: Job,
        context: NodeContext,
        make_context: Callable[[], NodeContext],
    ) -> None:
        self._catalog = catalog
        self._carry_out = partial(secrets.read_for_model, http=http, notifier=notifier)
        self._secrets = secrets
        self._job = job
        self._context = context
        self._make_context = make_context
        self._shapes: dict[str, ToolShape | None] = {}

    async def offers(self, tools: Sequence[ModelTool]) -> list[OfferedTool]:
        """How a model sees them; raises `Refused` for an action that is no tool."""
        return [await self._offer(tool) for tool in tools]

    async def _offer(self, tool: ModelTool) -> OfferedTool:
        action = self._action(tool)
        shape = await self._shape(tool, action)
        if shape is not None:
            return OfferedTool(tool.called, tool.description or shape.about or action.summary, shape.schema)
        schema = await run_beside(_schema_of, action, tool)
        return OfferedTool(tool.called, tool.description or action.summary, schema)

    def _action(self, tool: ModelTool) -> Action:
        found = self._catalog.actions.get(tool.type)
        if found is None or found.effect is Effect.SPEND or tool.type == LLM:
            raise Refused(f'"{tool.type}" is no action that a model may call.')
        return found

    async def _shape(self, tool: ModelTool, action: Action) -> ToolShape | None:
        """How the action itself wants to be seen."""
        if action.as_tool is None:
            return None
        if tool.called not in self._shapes:
            connection: Connection | None = await self._secrets.connection_of(self._job_of(tool, action, None, {}))
            self._shapes[tool.called] = None if connection is None else action.as_tool(tool.payload, connection)
        return self._shapes[tool.called]

    async def call(self, tool: ModelTool, args: Any) -> ToolAnswer:
        """Calls one with a model's arguments; a failure is an answer, too."""
        try:
            outcome = await self._called(tool, args)
        except ValidationError as error:
            return ToolAnswer(False, _failure(_problems(error)))
        except DustrunError as error:
            return ToolAnswer(False, _failure(error.message))
        if isinstance(outcome, Settled):
            self._context.notes.assumed = self._context.notes.assumed or outcome.assumed
            return ToolAnswer(True, await run_sized(outcome.result, _shown, outcome.result))
        message = outcome.message if isinstance(outcome, Failed) else "It has no result."
        return ToolAnswer(False, _failure(message))

    async def _called(self, tool: ModelTool, args: Any) -> Outcome:
        if not isinstance(args, dict):
            raise Invalid("The arguments must be one JSON object.")
        action, spec = self._action(tool), self._catalog.specs()[tool.type]
        shape = await self._shape(tool, action)
        if shape is None:
            _check_effect(tool, args, spec.effect_fields)
        payload = {**(args if shape is None else {shape.field: args}), **tool.payload}
        value = await run_sized(payload, action.input.model_validate, payload)
        if action.wants_wallet(value):
            raise Refused("A model reads no wallet of the server: give the address.")
        _check_addresses(tool, payload, spec.url_fields)
        job, context = self._job_of(tool, action, value, payload), self._make_context()
        context.notes.assumed = job.assumed
        if action.effect is Effect.PURE and not action.is_async:
            return await self._secrets.masked(await run_beside(nodes.run_pure, job, context))
        return await self._carry_out(job, context)

    def _job_of(self, tool: ModelTool, action: Action, value: Any, payload: dict[str, Any]) -> Job:
        """An attempt in the place of the model's node."""
        node = Node(type=tool.type, payload=tool.payload, connector=tool.connector)
        of_tool = replace(self._job.node, node=node, spec=self._catalog.specs()[tool.type])
        effect = action.effect if value is None else action.effect_for(value)
        return Job(self._job.start, of_tool, action, value, payload, effect, self._context.notes.assumed, None, None)


def _schema_of(action: Action, tool: ModelTool) -> dict[str, Any]:
    """The schema of the inputs that the model gives."""
    schema = action.input.model_json_schema(by_alias=True)
    given = schema.get("properties", {}).items()
    properties = {
        name: _told(one, tool)
        for name, one in given
        if name not in tool.payload and not one.get("x-ignored") and not one.get("x-effect")
    }
    found = {"type": "object", "properties": properties, "additionalProperties": False}
    required = [name for name in schema.get("required", ()) if name in properties]
    return {
        **found,
        **({"required": required} if required else {}),
        **({"$defs": schema["$defs"]} if "$defs" in schema else {}),
    }


def _told(one: Mapping[str, Any], tool: ModelTool) -> dict[str, Any]:
    """A property without the hints for forms; of an address, where it may lead."""
    shown = {name: value for name, value in one.items() if name != "title" and not name.startswith("x-")}
    if not one.get("x-url"):
        return shown
    return {**shown, "description": f"{one.get('description', '')} Only on {', '.join(tool.hosts)}.".strip()}


def _check_effect(tool: ModelTool, args: Mapping[str, Any], effect_fields: frozenset[str]) -> None:
    """Raises `Refused` if the model declares what its call does: a write that it calls a read would be carried out."""
    for field in sorted(effect_fields & args.keys() - tool.payload.keys()):
        raise Refused(f"`{field}` is not yours to give: only the workflow says that a request reads.")


def _check_addresses(tool: ModelTool, payload: Mapping[str, Any], url_fields: frozenset[str]) -> None:
    """Raises `Refused` for an address that the model has chosen on a host that is not named."""
    allowed = {parse(one).origin for one in tool.hosts}
    for field in url_fields - tool.payload.keys():
        value = payload.get(field)
        if value is not None and (not isinstance(value, str) or parse(value).origin not in allowed):
            raise Refused(f"`{field}` must be on one of these hosts: {', '.join(tool.hosts) or 'none is named'}.")


def _problems(error: ValidationError) -> str:
    found = error.errors(include_url=False, include_input=False)[:_MOST_PROBLEMS]
    lines = (f"{field_path(one['loc']) or 'arguments'}: {explain(one['type'], one['msg'])}" for one in found)
    return f"The arguments are not valid: {'; '.join(lines)}"


def _shown(result: Any) -> str:
    text = without_unseen(dumps_text(result))
    return text if len(text) <= _MOST_CHARS else text[:_MOST_CHARS] + _CUT


def _failure(message: str) -> str:
    return dumps_text({"error": without_unseen(message)[:1_000]})
