"""What is said between a node and its model: questions, answers, and the calls of tools between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from decimal import Decimal
from typing import Any, Final

from dustrun.core.values.exact_json import dumps_text
from dustrun.core.workflow.model_tools import ModelTool
from dustrun.errors import Code, Permanent, Refused
from dustrun.records import dataclass
from dustrun.sdk import Context
from dustrun.sdk.context import ToolAnswer
from dustrun.sdk.llm.asking import ask
from dustrun.sdk.llm.messages import Answer, Ask, Called, Part, Returned, Said, ToolOffer

_MOST_SHOWN: Final = 1_000
_MOST_ARGS: Final = 65_536
_MOST_NAME: Final = 64


@dataclass(frozen=True, slots=True)
class Most:
    """What a node allows its model."""

    usd: Decimal
    output_tokens: int
    timeout_s: float
    calls: int


@dataclass(slots=True)
class Talk:
    """What was said so far. `calls`: the tools that the model called, as the node's result shows them."""

    ctx: Context
    model: str
    system: str
    most: Most
    tools: Sequence[ModelTool]
    parts: list[Part]
    answer_schema: dict[str, Any] | None = None
    answers: list[Answer] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)
    offers: tuple[ToolOffer, ...] = ()

    @property
    def cost(self) -> Decimal:
        """What all answers cost together."""
        return sum((one.cost for one in self.answers), Decimal(0))

    async def learn_tools(self) -> None:
        """Learns how the model sees its tools."""
        if self.tools:
            offered = await self.ctx.model_tools.offers(self.tools)
            self.offers = tuple(ToolOffer(one.name, one.about, one.schema) for one in offered)

    async def ask(self) -> Answer:
        """One request, within what is left of the money."""
        most, left = self.most, self.most.usd - self.cost
        parts = tuple(self.parts)
        schema = self.answer_schema if self.ctx.connection.data.holds_schema else None
        asked = Ask(self.model, self.system, parts, left, most.output_tokens, self.offers, most.timeout_s, schema)
        answer = await ask(self.ctx.http, self.ctx.connection, asked)
        self.answers.append(answer)
        return answer

    async def call(self, answer: Answer) -> None:
        """Carries out the calls of an answer; raises `Refused` when there are too many."""
        if not self.tools:
            raise Permanent("The model called a tool, and it has none.", code=Code.LLM_OUTPUT_INVALID)
        if len(self.calls) + len(answer.calls) > self.most.calls:
            message = f"The model called tools more than {self.most.calls} times (`maxCalls`)."
            raise Refused(message, code=Code.MODEL_TOOL_LOOP)
        begun = len(self.calls) + 1
        # ids of our own, since a model may repeat its own
        called = [
            Called(f"c{number}", one.tool[:_MOST_NAME], one.args) for number, one in enumerate(answer.calls, begun)
        ]
        self.parts += [*([Said("assistant", answer.text)] if answer.text else []), *called]
        for one in called:
            found = await self._answer(one)
            self.ctx.log(f'The model called the tool "{one.tool}"{"" if found.ok else ", which failed"}.')
            shown = one.args if len(dumps_text(one.args)) <= _MOST_SHOWN else "(too large to show)"
            self.calls.append({"tool": one.tool, "args": shown, "ok": found.ok, "result": found.text[:_MOST_SHOWN]})
            self.parts.append(Returned(one.call_id, one.tool, found.text))

    async def _answer(self, call: Called) -> ToolAnswer:
        tool = next((one for one in self.tools if one.called == call.tool), None)
        if tool is None:
            names = ", ".join(one.called for one in self.tools)
            return ToolAnswer(False, dumps_text({"error": f"There is no such tool; there are {names}."}))
        if len(dumps_text(call.args)) > _MOST_ARGS:
            return ToolAnswer(False, dumps_text({"error": f"The arguments have more than {_MOST_ARGS} characters."}))
        return await self.ctx.model_tools.call(tool, call.args)
