"""Rows of imported OpenAPI documents and of their operations.

A version of a document comes in by many transactions and counts from one write on, that of `number`: an operation is
there if `since` is not after that number and `until` is. What came in before a failure is taken away again first.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Container, Iterator, Sequence
from dataclasses import fields
from typing import Final

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from dustrun.core.values import exact_json
from dustrun.records import dataclass
from dustrun.storage.db.catalog_tables import catalog_imports as i
from dustrun.storage.db.catalog_tables import catalog_operations as o
from dustrun.storage.db.catalog_tables import catalog_versions as v
from dustrun.storage.db.statement import Row, Statement, Tx
from dustrun.storage.db.tables import workflow_versions, workflows

_MOST_WORDS: Final = 8
_WORD: Final = re.compile(r"[a-z0-9]+")
_RANKED: Final = 1_000
"""Hits of a search that are put in order; of more, the first that came in. To rank all hits of a common word among
122,354 operations took SQLite up to 200 ms."""
_BEGINS: Final = 2
"""Letters from which on a word of a search is the beginning of others: too many begin with one letter."""
_NEIGHBOURS: Final = 50
"""Names on each side of one that does not exist with which it is compared."""
_MOST_READ: Final = 2_000
"""Operations of an API up to which all its types are read to find similar ones; of more, a search finds some."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportRow:
    """An imported document; `document`, `choice` and `effects` are JSON, times in milliseconds."""

    id: str
    org_id: str
    name: str
    number: int
    document: str
    choice: str
    effects: str
    operations: int
    staging: str | None
    staging_at: int | None
    created_by: str
    created_at: int
    updated_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionRow:
    """One version of a document; `changes` is JSON."""

    import_id: str
    number: int
    hash: str
    operations: int
    changes: str
    created_by: str
    created_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationRow:
    """One operation as one or more versions of a document have it. `content`: compressed."""

    org_id: str
    import_id: str
    type: str
    pin: str
    since: int
    until: int | None
    method: str
    server: str
    effect: str
    summary: str
    words: str
    content: bytes


@dataclass(frozen=True, slots=True)
class FoundOperation:
    """An operation of a version in use, as lists show it."""

    type: str
    pin: str
    method: str
    server: str
    effect: str
    summary: str


_IMPORT = tuple(field.name for field in fields(ImportRow))
_VERSION = tuple(field.name for field in fields(VersionRow))
_OPERATION = tuple(field.name for field in fields(OperationRow))
_FOUND = tuple(field.name for field in fields(FoundOperation))
_OF_ORG = i.c.org_id == b("org_id")
_IS_CURRENT = sa.and_(o.c.since <= i.c.number, sa.or_(o.c.until.is_(None), o.c.until > i.c.number))


def _inserting(table: sa.Table, names: Sequence[str]) -> Statement:
    return Statement(sa.insert(table).values({name: b(name, type_=table.c[name].type) for name in names}))


_INSERT_IMPORT = _inserting(i, _IMPORT)
_INSERT_VERSION = _inserting(v, _VERSION)
_INSERT_OPERATION = _inserting(o, _OPERATION)
_SELECT_IMPORT = sa.select(*(i.c[name] for name in _IMPORT))
_FIND = Statement(_SELECT_IMPORT.where(_OF_ORG, sa.or_(i.c.id == b("wanted"), i.c.name == b("wanted"))))
_NAMES = sa.select(i.c.name).where(_OF_ORG, i.c.number > 0).limit(_NEIGHBOURS)
_NAMES_AFTER = Statement(_NAMES.where(i.c.name >= b("name")).order_by(i.c.name))
_NAMES_BEFORE = Statement(_NAMES.where(i.c.name < b("name")).order_by(i.c.name.desc()))
_LIST = Statement(
    _SELECT_IMPORT.where(_OF_ORG, i.c.number > 0)
    .order_by(i.c.name)
    .limit(b("most", type_=sa.Integer))
    .offset(b("skipped", type_=sa.Integer))
)
_WITH_SERVICE = Statement(
    sa.select(i.c.name, i.c.choice)
    .where(_OF_ORG, i.c.number > 0, i.c.choice.contains('"service":"', autoescape=True))
    .order_by(i.c.name)
)
_STAGE = Statement(
    sa.update(i)
    .where(i.c.id == b("of_id"), sa.or_(i.c.staging.is_(None), i.c.staging_at < b("before", type_=sa.BigInteger)))
    .values(staging=b("token"), staging_at=b("at", type_=sa.BigInteger))
)
_KEEP_STAGING = Statement(
    sa.update(i).where(i.c.id == b("of_id"), i.c.staging == b("token")).values(staging_at=b("at", type_=sa.BigInteger))
)
_UNSTAGE = Statement(
    sa.update(i).where(i.c.id == b("of_id"), i.c.staging == b("token")).values(staging=sa.null(), staging_at=sa.null())
)
_REMOVE_STAGED = Statement(sa.delete(o).where(o.c.import_id == b("of_id"), o.c.since > b("number", type_=sa.Integer)))
_REOPEN_STAGED = Statement(
    sa.update(o).where(o.c.import_id == b("of_id"), o.c.until > b("number", type_=sa.Integer)).values(until=sa.null())
)
_CLOSE = Statement(
    sa.update(o)
    .where(o.c.import_id == b("of_id"), o.c.type == b("of_type"), o.c.until.is_(None), o.c.since < b("number"))
    .values(until=b("number", type_=sa.Integer))
)
_CURRENT = Statement(
    sa.select(o.c.type, o.c.pin)
    .join_from(o, i, o.c.import_id == i.c.id)
    .where(o.c.import_id == b("of_id"), _IS_CURRENT)
)
_ACTIVATE = Statement(
    sa.update(i)
    .where(i.c.id == b("of_id"), i.c.staging == b("token"))
    .values(
        number=b("number", type_=sa.Integer),
        document=b("document"),
        choice=b("choice"),
        effects=b("effects"),
        operations=b("operations", type_=sa.Integer),
        updated_at=b("at", type_=sa.BigInteger),
        staging=sa.null(),
        staging_at=sa.null(),
    )
)
_LIST_VERSIONS = Statement(
    sa.select(*(v.c[name] for name in _VERSION))
    .where(v.c.import_id == b("of_id"))
    .order_by(v.c.number.desc())
    .limit(b("most", type_=sa.Integer))
    .offset(b("skipped", type_=sa.Integer))
)
_CONTENT = sa.select(o.c.pin, o.c.content).join_from(o, i, o.c.import_id == i.c.id)
_OF_TYPE = sa.and_(o.c.org_id == b("org_id"), o.c.type == b("type"))
_FIND_CURRENT = Statement(_CONTENT.where(_OF_TYPE, _IS_CURRENT).limit(1))
_FIND_PINNED = Statement(_CONTENT.where(_OF_TYPE, o.c.pin == b("pin"), o.c.since <= i.c.number).limit(1))
_TYPES = sa.select(o.c.type).join_from(o, i, o.c.import_id == i.c.id)
_TYPES = _TYPES.where(o.c.import_id == b("import_id"), _IS_CURRENT).limit(_NEIGHBOURS)
_TYPES_AFTER = Statement(_TYPES.where(o.c.type >= b("type")).order_by(o.c.type))
_TYPES_BEFORE = Statement(_TYPES.where(o.c.type < b("type")).order_by(o.c.type.desc()))
_ALL_TYPES = Statement(
    sa.select(o.c.type)
    .join_from(o, i, o.c.import_id == i.c.id)
    .where(o.c.org_id == b("org_id"), o.c.type >= b("begin"), o.c.type < b("end"), _IS_CURRENT)
)
_SELECT_FOUND = sa.select(*(o.c[name] for name in _FOUND)).join_from(o, i, o.c.import_id == i.c.id)
_FROM_TYPE = sa.and_(o.c.org_id == b("org_id"), o.c.type >= b("begin"), _IS_CURRENT)


def _page(wanted: sa.ColumnElement[bool]) -> Statement:
    """Selects a page of operations by type. Rows are skipped in the index alone, which has all that this needs: rows
    with their content would be read for nothing. Only one operation of a type is in use."""
    first = sa.select(o.c.type).join_from(o, i, o.c.import_id == i.c.id).where(wanted).order_by(o.c.type)
    first = first.limit(1).offset(b("skipped", type_=sa.Integer))
    page = _SELECT_FOUND.where(wanted, o.c.type >= first.correlate(None).scalar_subquery())
    return Statement(page.order_by(o.c.type).limit(b("most", type_=sa.Integer)))


_BEGINNING = i.c.name.concat(".")
_COUNTED = (
    sa.select(
        _BEGINNING.label("begin"), i.c.operations, sa.func.sum(i.c.operations).over(order_by=_BEGINNING).label("until")
    )
    .where(i.c.org_id == b("org_id"), i.c.number > 0)
    .subquery()
)
_BEFORE = _COUNTED.c["until"] - _COUNTED.c.operations
# Whole imports are skipped by their counts: to pass over their operations takes PostgreSQL a millisecond a thousand.
_SKIP_IMPORTS = Statement(
    sa.select(_COUNTED.c.begin, _BEFORE)
    .where(b("skipped") >= _BEFORE)
    .order_by(_BEFORE.desc(), _COUNTED.c.begin)
    .limit(1)
)
_PICK = Statement(_SELECT_FOUND.where(o.c.pk == b("pk")))
_PICK_PAGE = _page(_FROM_TYPE)
_PICK_PAGE_OF_API = _page(sa.and_(_FROM_TYPE, o.c.type < b("end")))
_CURRENT_OF_ORG = (
    " WHERE i.id = o.import_id AND o.org_id = :org_id"
    " AND (:import_id = '' OR o.import_id = :import_id)"
    " AND o.since <= i.number AND (o.until IS NULL OR o.until > i.number)"
)
# CROSS JOIN fixes the order in SQLite, which may otherwise go through all operations and search the words for each.
_HITS_SQLITE = Statement(
    sa.text(
        "SELECT o.pk, o.type, length(o.words)"  # noqa: S608 - own text
        " FROM catalog_search s CROSS JOIN catalog_operations o CROSS JOIN catalog_imports i"
        f"{_CURRENT_OF_ORG} AND o.pk = s.rowid AND catalog_search MATCH :query LIMIT :most"
    )
)
_HITS_POSTGRESQL = Statement(
    sa.text(
        f"SELECT o.pk, o.type, length(o.words) FROM catalog_operations o, catalog_imports i{_CURRENT_OF_ORG}"  # noqa: S608 - the same
        f" AND to_tsvector('simple', o.words) @@ to_tsquery('simple', :query) LIMIT :most"
    )
)
_HIDE = Statement(
    sa.update(i)
    .where(i.c.id == b("of_id"))
    .values(number=0, staging="deleted", staging_at=b("at", type_=sa.BigInteger))
)
_DELETE_VERSIONS = Statement(sa.delete(v).where(v.c.import_id == b("of_id")))
_DELETE_SOME = Statement(
    sa.delete(o).where(
        o.c.pk.in_(sa.select(o.c.pk).where(o.c.import_id == b("of_id")).limit(b("most", type_=sa.Integer)))
    )
)
_DELETE = Statement(sa.delete(i).where(i.c.id == b("of_id")))


def words_of(text: str) -> list[str]:
    """The words of a text, as they are searched for."""
    return _WORD.findall(text.lower())


def org_word(org_id: str) -> str:
    """A word that only operations of that organisation have."""
    return "".join(words_of(org_id))


def insert(tx: Tx, row: ImportRow) -> None:
    """Inserts an import."""
    tx.do(_INSERT_IMPORT, **{name: getattr(row, name) for name in _IMPORT})


def find(tx: Tx, org_id: str, wanted: str) -> ImportRow | None:
    """Finds an import by its id or name, also one whose first version is still coming in."""
    found = tx.one(_FIND, org_id=org_id, wanted=wanted)
    return ImportRow(**dict(zip(_IMPORT, found, strict=True))) if found else None


def list_page(tx: Tx, org_id: str, *, limit: int, offset: int) -> list[ImportRow]:
    """Lists one page of imports by name."""
    rows = tx.all(_LIST, org_id=org_id, most=limit, skipped=offset)
    return [ImportRow(**dict(zip(_IMPORT, row, strict=True))) for row in rows]


def list_services(tx: Tx, org_id: str) -> list[tuple[str, str]]:
    """The imports of known services: their names, and those of the services."""
    rows = tx.all(_WITH_SERVICE, org_id=org_id)
    found = ((str(name), exact_json.loads_own(str(choice)).get("service")) for name, choice in rows)
    return [(name, service) for name, service in found if service is not None]


def stage(tx: Tx, row: ImportRow, token: str, *, at: int, before: int) -> bool:
    """Begins to bring in the next version; False if somebody else does, and has gone on since `before`."""
    if tx.run(_STAGE, of_id=row.id, token=token, at=at, before=before) != 1:
        return False
    tx.do(_REMOVE_STAGED, of_id=row.id, number=row.number)
    tx.do(_REOPEN_STAGED, of_id=row.id, number=row.number)
    return True


def keep_staging(tx: Tx, import_id: str, token: str, at: int) -> bool:
    """Says that the version still comes in; False if somebody else has begun anew."""
    return tx.run(_KEEP_STAGING, of_id=import_id, token=token, at=at) == 1


def unstage(tx: Tx, row: ImportRow, token: str) -> None:
    """Takes away what came in; an import without a version goes as a whole."""
    if tx.run(_UNSTAGE, of_id=row.id, token=token) == 1:
        tx.do(_REMOVE_STAGED, of_id=row.id, number=row.number)
        tx.do(_REOPEN_STAGED, of_id=row.id, number=row.number)
        if row.number == 0:
            tx.do(_DELETE, of_id=row.id)


def add_operations(tx: Tx, rows: Sequence[OperationRow]) -> None:
    """Adds operations of the version that comes in."""
    tx.many(_INSERT_OPERATION, [{name: getattr(row, name) for name in _OPERATION} for row in rows])


def close_operations(tx: Tx, import_id: str, types: Sequence[str], number: int) -> None:
    """Says that the version that comes in has other operations of these types, or none."""
    tx.many(_CLOSE, [{"of_id": import_id, "of_type": one, "number": number} for one in types])


def current_pins(tx: Tx, import_id: str) -> dict[str, str]:
    """The pins of the operations in use, by type."""
    return {str(row[0]): str(row[1]) for row in tx.all(_CURRENT, of_id=import_id)}


def activate(tx: Tx, row: ImportRow, token: str, version: VersionRow) -> bool:
    """Makes the version that came in the one in use; False if somebody else has begun anew."""
    changed = {name: getattr(row, name) for name in ("document", "choice", "effects")}
    values = {**changed, "number": version.number, "operations": version.operations, "at": version.created_at}
    if tx.run(_ACTIVATE, of_id=row.id, token=token, **values) != 1:
        return False
    tx.do(_INSERT_VERSION, **{name: getattr(version, name) for name in _VERSION})
    return True


def list_versions(tx: Tx, import_id: str, *, limit: int, offset: int) -> list[VersionRow]:
    """Lists the versions of a document, newest first."""
    rows = tx.all(_LIST_VERSIONS, of_id=import_id, most=limit, skipped=offset)
    return [VersionRow(**dict(zip(_VERSION, row, strict=True))) for row in rows]


def find_operation(tx: Tx, org_id: str, type_: str, pin: str | None) -> tuple[str, bytes] | None:
    """The pin and the compressed content of an operation: the pinned one, or that of the version in use."""
    if pin is None:
        found = tx.one(_FIND_CURRENT, org_id=org_id, type=type_)
    else:
        found = tx.one(_FIND_PINNED, org_id=org_id, type=type_, pin=pin)
    return (str(found[0]), bytes(found[1])) if found else None


def search(
    tx: Tx, org_id: str, text: str, *, api: str, limit: int, offset: int, favoured: Container[str] = ()
) -> list[FoundOperation]:
    """One page of the operations in use that have all words of the text, the best first, then of those with words that
    begin so; without words by type. `api`: of that import only; empty: of all. At most `_RANKED` of each are found. A
    single letter is a whole word; if nothing has it, those without it are found, since it may be typed only in part.
    `favoured`: types that come before others with as many of the words in their names."""
    row = find(tx, org_id, api) if api else None
    if api and row is None:
        return []
    import_id, words = row.id if row else "", words_of(text)[:_MOST_WORDS]
    if not words:
        given = {"org_id": org_id, "most": limit}
        if row:  # its types begin with "<name>.", and "/" is the character after "."
            found = tx.all(_PICK_PAGE_OF_API, **given, begin=f"{row.name}.", end=f"{row.name}/", skipped=offset)
        else:
            skip = tx.one(_SKIP_IMPORTS, org_id=org_id, skipped=offset)
            begin, before = (skip[0], int(skip[1])) if skip is not None else ("", 0)
            found = tx.all(_PICK_PAGE, **given, begin=begin, skipped=offset - before)
        return [FoundOperation(*one) for one in found]
    narrow = [org_word(org_id), *(words_of(row.name) if row else ())]
    beginnings = [word for word in words if len(word) >= _BEGINS]
    letters = [word for word in words if len(word) < _BEGINS]
    ranked = _hits(tx, org_id, import_id, [*narrow, *words], [], favoured)
    if len(ranked) < offset + limit and beginnings:
        more = _hits(tx, org_id, import_id, [*narrow, *letters], beginnings, favoured)
        ranked = list(dict.fromkeys((*ranked, *more)))
    if not ranked and letters and beginnings:
        ranked = _hits(tx, org_id, import_id, narrow, beginnings, favoured)
    picked = [tx.one(_PICK, pk=pk) for pk in ranked[offset : offset + limit]]
    return [FoundOperation(*one) for one in picked if one]


def _hits(
    tx: Tx, org_id: str, import_id: str, words: Sequence[str], beginnings: Sequence[str], favoured: Container[str]
) -> list[int]:
    """The keys of operations that have the words, and others that begin so: those first that have most of them in their
    names, of these the favoured ones, then the shortest."""
    parts = [*(f"-{word}-" for word in words), *(f"-{word}" for word in beginnings)]

    def order(hit: tuple[int, str, int]) -> tuple[int, bool, int, int]:
        pk, kind, length = hit
        name = f"-{kind.replace('.', '-')}-"
        return -sum(part in name for part in parts), kind not in favoured, length, pk

    hits = _matching(tx, org_id, import_id, words, beginnings, most=_RANKED)
    return [hit[0] for hit in sorted(((int(one[0]), str(one[1]), int(one[2])) for one in hits), key=order)]


def _matching(
    tx: Tx, org_id: str, import_id: str, words: Sequence[str], beginnings: Sequence[str], *, most: int
) -> Sequence[Row]:
    """Key, type and length of the words of operations in use that have these, the first that came in."""
    if tx.is_sqlite:
        asked = [*(f'"{word}"' for word in words), *(f'"{word}"*' for word in beginnings)]
        query, statement = " AND ".join(asked), _HITS_SQLITE
    else:
        asked = [*words, *(f"{word}:*" for word in beginnings)]
        query, statement = " & ".join(asked), _HITS_POSTGRESQL
    return tx.all(statement, query=query, org_id=org_id, import_id=import_id, most=most)


def names_near(tx: Tx, org_id: str, name: str) -> list[str]:
    """The names of imports that are next to a name in their order."""
    given = {"org_id": org_id, "name": name}
    return [str(row[0]) for one in (_NAMES_AFTER, _NAMES_BEFORE) for row in tx.all(one, **given)]


def types_near(tx: Tx, row: ImportRow, wanted: str) -> list[str]:
    """The types of an import that may be meant by one that it does not have: those next to it in their order, and those
    that share the most words with it. At most a few hundred, however many there are."""
    given = {"import_id": row.id, "type": wanted}
    found = [str(one[0]) for each in (_TYPES_AFTER, _TYPES_BEFORE) for one in tx.all(each, **given)]
    words = words_of(wanted.partition(".")[2])
    if row.operations > _MOST_READ:
        found += _types_with_rest(tx, row, words[:_MOST_WORDS])
    elif row.operations > _NEIGHBOURS:
        types = [str(one[0]) for one in tx.all(_ALL_TYPES, org_id=row.org_id, begin=f"{row.name}.", end=f"{row.name}/")]
        asked = set(words)
        found += heapq.nlargest(_NEIGHBOURS, types, key=lambda one: len(asked.intersection(_WORD.findall(one))))
    return list(dict.fromkeys(found))


def _types_with_rest(tx: Tx, row: ImportRow, words: list[str]) -> Iterator[str]:
    """Types that a search finds by the words without those that no operation has; if it has each, without one of them
    at a time."""
    narrow = [org_word(row.org_id), *words_of(row.name)]
    known = [word for word in words if _matching(tx, row.org_id, row.id, [*narrow, word], [], most=1)]
    some = [known] if len(known) < len(words) else [words[:at] + words[at + 1 :] for at in range(len(words))]
    for one in filter(None, some):
        yield from (str(hit[1]) for hit in _matching(tx, row.org_id, row.id, [*narrow, *one], [], most=_NEIGHBOURS))


def hide(tx: Tx, import_id: str, at: int) -> None:
    """Takes an import out of use; what it has can then be deleted bit by bit, and nobody imports into it meanwhile."""
    tx.do(_HIDE, of_id=import_id, at=at)


def delete_some(tx: Tx, import_id: str, most: int) -> int:
    """Deletes some operations; returns how many."""
    return tx.run(_DELETE_SOME, of_id=import_id, most=most)


def delete(tx: Tx, import_id: str) -> None:
    """Deletes an import whose operations are deleted."""
    tx.do(_DELETE_VERSIONS, of_id=import_id)
    tx.do(_DELETE, of_id=import_id)


def list_users(tx: Tx, org_id: str, name: str) -> list[tuple[str, str, int, str]]:
    """The drafts and live versions of unarchived workflows that use operations of an API: id, name, version and
    definition."""
    w, d = workflows, workflow_versions
    query = (
        sa.select(w.c.id, w.c.name, d.c.version, d.c.definition)
        .join_from(w, d, d.c.workflow_id == w.c.id)
        .where(
            w.c.org_id == org_id,
            w.c.status != "archived",
            sa.or_(d.c.version == w.c.draft_version, d.c.version == w.c.live_version),
            d.c.definition.contains(f'"{name}.', autoescape=True),
        )
        .order_by(w.c.id, d.c.version)
    )
    return [(str(row[0]), str(row[1]), int(row[2]), str(row[3])) for row in tx.all(Statement(query))]
