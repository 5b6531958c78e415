"""`/v1/search`: one search over everything that the caller may see."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dustrun import clock
from dustrun.errors import Code
from dustrun.operations.declaration.answers import Answer
from dustrun.operations.declaration.fields import ANY_OF, Commas, Paged, Text
from dustrun.operations.declaration.operation import ANY_KEY, Noun
from dustrun.operations.declaration.parts import Call
from dustrun.records import dataclass
from dustrun.services import search
from dustrun.services.access.paging import Page
from dustrun.services.search import Comparable, Hit, Kind

noun = Noun("Search")

_UNKNOWN = [Code.WORKFLOW_UNKNOWN, Code.TEMPLATE_UNKNOWN, Code.TYPE_UNKNOWN]
ComparedType = Annotated[Comparable, Field(description="What it is.")]
ComparedId = Annotated[str, Field(max_length=128, description="Its id; of types the type.", examples=["http-request"])]
Most = Annotated[int, Field(ge=1, le=20, description="How many, at most.")]
Words = Annotated[Text, Field(min_length=1, max_length=256, description="Words; what is found has all of them.")]


class SearchHit(Answer):
    """Something that was found."""

    type: Kind
    id: str = Field(description="Its id; of what can be a node its type, of a `doc` the `operationId`.")
    name: str = Field(description="Of a run, its workflow's.")
    description: str = Field(description="Of a run, its last message or error; of a `doc`, method and path.")
    category: str | None = Field(description="Of a workflow, its folder; of a run, its mode.")
    status: str | None = Field(description="Of workflows and runs.")
    tags: list[str]
    workflow_type: str | None = Field(description="Trigger type of a workflow or template.")
    score: int = Field(description="The higher, the better it matches.")


class SearchAnswer(Answer):
    """The hits of a search, the best first."""

    query: str
    results: list[SearchHit]
    total_hits: int = Field(description="How much was found; of each kind, at most 100 are looked for.")
    processing_time_ms: int
    limit: int
    offset: int
    has_more: bool


@dataclass(frozen=True, slots=True)
class _Found:
    query: str
    results: list[Hit]
    total_hits: int
    processing_time_ms: int
    limit: int
    offset: int
    has_more: bool


@noun.get("/v1/search", permission=ANY_KEY, answers=SearchAnswer)
async def search_everything(
    call: Call,
    q: Words,
    paging: Paged,
    types: Annotated[list[Kind] | None, Commas, Field(description=f"Only of these kinds, {ANY_OF}.")] = None,
) -> _Found:
    """Search workflows, runs, node types, imported operations, templates, connector types and this API.

    A key finds what it may read: workflows and templates with `workflow:read`, runs with `run:read`, and within its
    limits. Runs are found by their id, and those that ended with an error or a message by its words, of many the
    newest thousand.
    """
    begun, parts = clock.monotonic_s(), call.parts
    entries = await search.entries_of(parts.catalog, parts.status.documented, parts.prepared)
    page, total = await search.find(call.principal, parts.database, entries, search.read_query(q, types), paging)
    return _answer(q, page, total, int((clock.monotonic_s() - begun) * 1000))


@noun.get("/v1/search/similar/{type}/{id}", permission=ANY_KEY, answers=SearchAnswer, refusals=_UNKNOWN)
async def search_similar(call: Call, type: ComparedType, id: ComparedId, limit: Most = 5) -> _Found:
    """Find what is most like a workflow, template, type of node or type of connector.

    By the words and node types that two have in common, rare ones first. Of workflows, the 500 that were changed last
    are compared, those that the key may read.
    """
    begun, parts = clock.monotonic_s(), call.parts
    entries = await search.entries_of(parts.catalog, parts.status.documented, parts.prepared)
    found = await search.find_similar(call.principal, parts.database, entries, type, id, limit)
    page = Page(found, limit, 0, has_more=False)
    return _answer(id, page, len(found), int((clock.monotonic_s() - begun) * 1000))


def _answer(q: str, page: Page[Hit], total: int, took_ms: int) -> _Found:
    return _Found(q, list(page.items), total, took_ms, page.limit, page.offset, page.has_more)
