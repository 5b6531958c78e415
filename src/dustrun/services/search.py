"""One search over everything: workflows, runs, what can be a node, templates, and the operations of the API.

What the store has is found by indexes or among an organisation's workflows, of each kind at most a hundred; what comes
with the server is looked through in memory.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from dataclasses import replace
from typing import Any, Final, Literal, get_args

from dustrun.catalog import Catalog
from dustrun.core.values.exact_json import loads_own
from dustrun.errors import Code, NotFound
from dustrun.records import dataclass
from dustrun.services.access.paging import Page, Paging
from dustrun.services.access.principal import Principal
from dustrun.services.templates.templates import Template, list_templates, of_own
from dustrun.storage.data import catalog as imported
from dustrun.storage.data.catalog import FoundOperation
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.runs import run_lists
from dustrun.storage.runs import runs as run_rows
from dustrun.storage.runs.runs import RunRow
from dustrun.storage.workflows import templates as own_templates
from dustrun.storage.workflows import workflows
from dustrun.storage.workflows.templates import TemplateRow
from dustrun.storage.workflows.workflows import ListedWorkflow, WorkflowFilters

Kind = Literal["workflow", "run", "action", "trigger", "operation", "template", "connector_def", "doc"]
Comparable = Literal["workflow", "action", "trigger", "template", "connector_def"]
MOST: Final = 100
"""Of each kind."""
_WORD: Final = re.compile(r"[^\W_]+")
_MOST_WORDS: Final = 8
_COMPARABLE: Final = frozenset(get_args(Comparable))
_MOST_COMPARED: Final = 500
_UNKNOWN: Final = {"workflow": Code.WORKFLOW_UNKNOWN, "template": Code.TEMPLATE_UNKNOWN}
_DESCRIPTION: Final = 300
_EXACT, _BEGINS, _IN_NAME, _ELSEWHERE, _RUN = 100, 90, 80, 50, 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """Something that was found; `score`: the higher, the better."""

    type: Kind
    id: str
    name: str
    description: str = ""
    category: str | None = None
    status: str | None = None
    tags: Sequence[str] = ()
    workflow_type: str | None = None
    score: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that comes with the server, and the text that it is found by, in small letters."""

    hit: Hit
    text: str


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """A question: its text, its words, and the kinds to look for."""

    text: str
    words: tuple[str, ...]
    kinds: frozenset[str]


def read_query(text: str, kinds: Sequence[Kind] | None) -> SearchQuery:
    """Reads a question; no kinds: all of them."""
    small = text.strip().lower()
    return SearchQuery(small, tuple(_WORD.findall(small)[:_MOST_WORDS]), frozenset(kinds or Kind.__args__))  # type: ignore[attr-defined]


async def find(
    principal: Principal, database: Database, entries: Sequence[Entry], query: SearchQuery, paging: Paging
) -> tuple[Page[Hit], int]:
    """A page of what the caller may see of what has all the words, the best first, and how much was found."""
    if not query.words:
        return Page([], paging.limit, paging.offset, has_more=False), 0
    found = await database.read(lambda tx: list(_stored(tx, principal, query)))
    found += [hit for hit in (_match(query, one) for one in entries if _may_see(principal, one.hit)) if hit is not None]
    found.sort(key=lambda hit: -hit.score)
    end = paging.offset + paging.limit
    return Page(found[paging.offset : end], paging.limit, paging.offset, has_more=len(found) > end), len(found)


def recommend(entries: Sequence[Entry], own: Sequence[ListedWorkflow], most: int) -> list[Hit]:
    """The templates most like what the workflows are made of; those that come with the server, if there are none."""
    known = [one for one in entries if one.hit.type == "template"]
    made_of = " ".join(name for one in own for name in one.node_types)
    wanted = Entry(Hit(type="workflow", id="", name=""), made_of)
    found = nearest(wanted, [*known, wanted], most)
    rest = [one.hit for one in known if all(one.hit.id != hit.id for hit in found)]
    return [*found, *rest][:most]


def _may_see(principal: Principal, hit: Hit) -> bool:
    return hit.type != "template" or principal.may("workflow:read")


def _match(query: SearchQuery, entry: Entry) -> Hit | None:
    hit = entry.hit
    if hit.type not in query.kinds or not all(word in entry.text for word in query.words):
        return None
    return _scored(query, hit)


def _scored(query: SearchQuery, hit: Hit) -> Hit:
    name = hit.name.lower()
    if query.text in (name, hit.id.lower()):
        score = _EXACT
    elif name.startswith(query.text):
        score = _BEGINS
    else:
        score = _IN_NAME if all(word in name for word in query.words) else _ELSEWHERE
    return _with(hit, score + (1 if hit.type == "workflow" else 0))


def _with(hit: Hit, score: int) -> Hit:
    return Hit(**{**{name: getattr(hit, name) for name in Hit.__slots__}, "score": score})


# --- what is like something ---


async def find_similar(
    principal: Principal, database: Database, entries: Sequence[Entry], kind: Comparable, id: str, most: int
) -> list[Hit]:
    """What is most like one thing, of what the caller may see; raises `NotFound`."""
    seen = [one for one in entries if one.hit.type in _COMPARABLE and _may_see(principal, one.hit)]
    if principal.may("workflow:read"):
        seen += await database.read(lambda tx: _workflow_entries(tx, principal, id if kind == "workflow" else None))
        own = await database.read(lambda tx: _own_templates(tx, principal))
        seen += [template_entry(of_own(one)) for one in own]
    subject = next((one for one in seen if (one.hit.type, one.hit.id) == (kind, id)), None)
    if subject is None:
        raise NotFound(f'There is no {kind} "{id}".', code=_UNKNOWN.get(kind, Code.TYPE_UNKNOWN))
    return await asyncio.to_thread(nearest, subject, seen, most)


def nearest(subject: Entry, entries: Sequence[Entry], most: int) -> list[Hit]:
    """Those that share words with it, the most alike first. The rarer a word, the more it says; its score is of 100."""
    words = {id(one): frozenset(_WORD.findall(one.text)) for one in entries}
    spread = Counter(word for found in words.values() for word in found)
    weight = {word: len(entries).bit_length() - count.bit_length() for word, count in spread.items()}
    own = words[id(subject)]
    total = sum(weight[word] for word in own)
    hits: list[Hit] = []
    for one in entries:
        shared = sum(weight[word] for word in own & words[id(one)])
        score = 200 * shared // max(1, total + sum(weight[word] for word in words[id(one)]))
        if score and one is not subject:
            hits.append(_with(one.hit, score))
    return sorted(hits, key=lambda hit: -hit.score)[:most]


def _workflow_entries(tx: Tx, principal: Principal, own: str | None) -> list[Entry]:
    """The newest workflows that the caller may access, and that one."""
    only = None if principal.workflow_ids is None else tuple(sorted(principal.workflow_ids))
    filters = WorkflowFilters(org_id=principal.org_id, only=only)
    found = workflows.list_page(tx, filters, sort="updatedAt:desc", limit=_MOST_COMPARED, offset=0)
    if own is not None and principal.may_use_workflow(own) and all(one.row.id != own for one in found):
        named = replace(filters, only=(own,))
        found += workflows.list_page(tx, named, sort="updatedAt:desc", limit=1, offset=0)
    return [_entry(_workflow(one), *one.node_types) for one in found]


# --- what the store has ---


def _stored(tx: Tx, principal: Principal, query: SearchQuery) -> Iterator[Hit]:
    only = None if principal.workflow_ids is None else sorted(principal.workflow_ids)
    reads_workflows = principal.may("workflow:read")
    if "workflow" in query.kinds and reads_workflows:
        rows = workflows.find_words(tx, principal.org_id, query.words, only, MOST)
        yield from (_scored(query, _workflow(one)) for one in rows)
    if "template" in query.kinds and reads_workflows:
        entries = (template_entry(of_own(one)) for one in _own_templates(tx, principal))
        yield from (hit for hit in (_match(query, one) for one in entries) if hit is not None)
    if "run" in query.kinds and principal.may("run:read"):
        yield from _runs(tx, principal, query, only)
    if "operation" in query.kinds and reads_workflows:
        text = " ".join(query.words)
        for one in imported.search(tx, principal.org_id, text, api="", limit=MOST, offset=0):
            yield _scored(query, _operation(one))


def _own_templates(tx: Tx, principal: Principal) -> list[TemplateRow]:
    found = own_templates.list_all(tx, principal.org_id)
    return [one for one in found if principal.may_use_workflow(one.source_workflow_id)]


def _workflow(found: ListedWorkflow) -> Hit:
    row = found.row
    return Hit(
        type="workflow",
        id=row.id,
        name=row.name,
        description=row.description[:_DESCRIPTION],
        category=row.folder,
        status=row.status,
        tags=row.tags.split(),
        workflow_type=found.trigger_type,
    )


def _runs(tx: Tx, principal: Principal, query: SearchQuery, only: Sequence[str] | None) -> Iterator[Hit]:
    """The run with that id, and those that ended with an error or a message that has the words."""
    exact = run_rows.find(tx, principal.org_id, query.text) if query.text.startswith("run_") else None
    if exact is not None and principal.may_use_workflow(exact.workflow_id):
        yield _with(_run(exact), _EXACT)
    for row in run_lists.find_words(tx, principal.org_id, query.words, only, MOST):
        if exact is None or row.pk != exact.pk:
            yield _with(_run(row), _RUN)


def _run(row: RunRow) -> Hit:
    error = loads_own(row.error) if row.error is not None else None
    said = row.summary or (str(error.get("message", "")) if isinstance(error, dict) else "")
    return Hit(
        type="run",
        id=row.id,
        name=row.workflow_name,
        description=said[:_DESCRIPTION],
        category=row.mode,
        status=row.status,
    )


def _operation(found: FoundOperation) -> Hit:
    return Hit(
        type="operation",
        id=found.type,
        name=found.summary or found.type,
        description=f"{found.method} {found.type}",
        category=found.effect,
    )


# --- what comes with the server ---


async def entries_of(
    catalog: Catalog, documented: Callable[[], Sequence[Hit]], kept: MutableMapping[Any, Any]
) -> Sequence[Entry]:
    """What comes with the server, kept once it has been asked for: it does not change while the server runs."""
    if find not in kept:
        kept[find] = await asyncio.to_thread(lambda: [*_entries(catalog), *map(_entry, documented())])
    found: Sequence[Entry] = kept[find]
    return found


def _entries(catalog: Catalog) -> Iterator[Entry]:
    sources: Sequence[tuple[Kind, Callable[[], list[dict[str, Any]]]]] = (
        ("action", lambda: catalog.public_actions(summary=True)),
        ("trigger", lambda: catalog.public_triggers(summary=True)),
        ("connector_def", catalog.public_connectors),
    )
    for kind, read in sources:
        for one in read():
            summary = str(one.get("summary") or one.get("description") or "")
            category = one.get("family") or one.get("kind")
            tags = [str(tag) for tag in one.get("tags") or ()]
            hit = Hit(type=kind, id=one["type"], name=one["type"], description=summary, category=category, tags=tags)
            yield _entry(hit)
    yield from map(template_entry, list_templates())


def template_entry(template: Template) -> Entry:
    """A template, as a search finds it."""
    about = Hit(
        type="template",
        id=template.id,
        name=template.name,
        description=template.description,
        category=template.category,
        tags=[] if template.own is None else template.own.tags.split(),
        workflow_type=template.trigger_type,
    )
    return _entry(about, *template.types)


def _entry(hit: Hit, *more: str) -> Entry:
    parts = (hit.id, hit.name, hit.description, hit.category or "", *hit.tags, *more)
    return Entry(hit, " ".join(parts).lower())
