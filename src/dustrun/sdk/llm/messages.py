"""Messages to a model, and its answers, whichever protocol it speaks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import field
from decimal import Decimal
from typing import Any, Literal

from dustrun.records import dataclass


@dataclass(frozen=True, slots=True)
class ModelText:
    """A text of the person or of the model."""

    role: Literal["user", "assistant"]
    text: str


@dataclass(frozen=True, slots=True)
class ModelToolCall:
    """A tool that the model calls. `args`: the arguments as exact JSON, or the text if it is none."""

    call_id: str
    tool: str
    args: Any


@dataclass(frozen=True, slots=True)
class ToolReturn:
    """A tool's answer."""

    call_id: str
    tool: str
    text: str


Part = ModelText | ModelToolCall | ToolReturn
OnText = Callable[[str], Awaitable[None]]
"""Told the text of an answer piece by piece."""


@dataclass(frozen=True, slots=True)
class ToolOffer:
    """A tool that the model may call."""

    name: str
    about: str
    schema: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ModelQuestion:
    """One request to a model. `most_usd`: what it may cost at most; `most_output`: tokens that it may write.
    `answer_schema`: the JSON Schema of an object that the answer is to be, for servers that hold a model to one."""

    model: str
    system: str
    parts: tuple[Part, ...]
    most_usd: Decimal
    most_output: int
    tools: tuple[ToolOffer, ...] = ()
    timeout_s: float = 60.0
    answer_schema: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """A model's answer. `stopped_by`: why it ended; `cost`: in US dollars."""

    text: str
    calls: tuple[ModelToolCall, ...]
    stopped_by: Literal["end", "length", "tools", "filter"]
    input_tokens: int
    output_tokens: int
    cost: Decimal = field(default=Decimal(0))
