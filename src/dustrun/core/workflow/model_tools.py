"""The tools of an `llm` node: actions that its model may call. Each is like a node without a place in the graph."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Final

from pydantic import Field, StringConstraints

from dustrun.core.values.fields import Fields
from dustrun.core.workflow.definition import ConnectorReference, Node
from dustrun.records import dataclass

LLM: Final = "llm"
MOST_TOOLS: Final = 20
ToolName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_-]{0,63}$")]
Origin = Annotated[str, StringConstraints(pattern=r"^https?://[^/?#{}\s]+$", max_length=300)]


class ModelTool(Fields):
    """An action that a model may call."""

    type: str = Field(description="Type of the action; one that computes or reads.", min_length=1, max_length=128)
    name: ToolName | None = Field(None, description="What the model calls it; by default its type with underscores.")
    description: str | None = Field(
        None, max_length=2_000, description="What the model reads of it; by default the action's summary."
    )
    payload: dict[str, Any] = Field(
        default_factory=dict, description="Inputs that are fixed: the model neither sees nor changes them."
    )
    hosts: tuple[Origin, ...] = Field(
        (),
        max_length=20,
        description="Where the model may choose the address: origins such as `https://api.example.com`.",
    )
    connector: ConnectorReference | None = Field(None, description="Connector of the action.")

    @property
    def called(self) -> str:
        """The tool's name for the model."""
        return self.name or self.type.replace("-", "_")


@dataclass(frozen=True, slots=True)
class OfferedTool:
    """How a model sees a tool."""

    name: str
    about: str
    schema: dict[str, Any]


def raw_tools(node: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The tools of a node as it is written, each with its place in the node."""
    listed = (node.get("payload") or {}).get("tools") if node.get("type") == LLM else None
    for at, one in enumerate(listed if isinstance(listed, list | tuple) else ()):
        if isinstance(one, dict):
            yield f"payload.tools[{at}]", one


def tool_nodes(node: Node) -> Iterator[tuple[str, Node]]:
    """The tools of a node as nodes, as far as they can be read, each with its place in the node."""
    if node.type != LLM or "tools" not in node.payload:
        return
    for place, one in raw_tools({"type": node.type, "payload": node.payload}):
        kind, payload = one.get("type"), one.get("payload", {})
        if isinstance(kind, str) and 0 < len(kind) <= 128 and isinstance(payload, dict):
            yield place, Node(type=kind, payload=payload, connector=_reference(one.get("connector")))


def with_tools(nodes: Iterable[Node]) -> Iterator[Node]:
    """The nodes, and the tools of their models."""
    for node in nodes:
        yield node
        yield from (tool for _, tool in tool_nodes(node))


def _reference(given: Any) -> ConnectorReference | None:
    try:
        return None if given is None else ConnectorReference.model_validate(given)
    except ValueError:
        return None  # the check of the payload names what is wrong
