"""`/v1/tags`: the tags of workflows and of the catalogue."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Literal

from pydantic import Field

from dustrun.operations.declaration.answers import Answer, PageAnswer
from dustrun.operations.declaration.fields import Paged
from dustrun.operations.declaration.operation import Noun
from dustrun.operations.declaration.parts import Call
from dustrun.operations.workflows import WorkflowQuery
from dustrun.records import dataclass
from dustrun.services.access.paging import Page, page_of

noun = Noun("Catalogue")
_SCOPES = {"actions": "public_actions", "triggers": "public_triggers", "connectors": "public_connectors"}

Scope = Literal["workflows", "actions", "triggers", "connectors"]


class TagAnswer(Answer):
    """A tag, and what has it."""

    name: str
    category: Scope = Field(description="What has the tag; one that several have is listed for each.")
    count: int


@dataclass(frozen=True, slots=True)
class _Tag:
    name: str
    category: str
    count: int


@noun.get("/v1/tags", permission="workflow:read", answers=PageAnswer[TagAnswer])
async def list_tags(
    call: Call,
    paging: Paged,
    category: Annotated[Scope | None, Field(description="Only tags of these.")] = None,
    search: Annotated[str | None, Field(max_length=256, description="Text in the tag.")] = None,
) -> Page[_Tag]:
    """List the tags of workflows, actions, triggers and connector types, the most frequent first."""
    wanted = (search or "").casefold()
    found = [
        _Tag(name, kind, count)
        for kind in ("workflows", *_SCOPES)
        if category in (None, kind)
        for name, count in (await _counted(call, kind)).items()
        if wanted in name.casefold()
    ]
    found.sort(key=lambda tag: (-tag.count, tag.name, tag.category))
    return page_of(found[paging.offset : paging.offset + paging.peek], paging)


async def _counted(call: Call, kind: str) -> Counter[str]:
    if kind == "workflows":
        return await call.parts.workflows.count_tags(WorkflowQuery().filters(call))
    await call.parts.await_catalogue()
    return Counter(tag for shown in getattr(call.parts, _SCOPES[kind]) for tag in shown["tags"])
