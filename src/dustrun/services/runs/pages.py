"""Pages of runs. Indexes answer the filters; a text is looked for in the runs that they find, for a limited time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from dustrun import clock
from dustrun.core.values.exact_json import loads
from dustrun.records import dataclass
from dustrun.services.access.paging import Page, Paging
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.runs.run_lists import RunFilters, find_text, list_pks, list_runs
from dustrun.storage.runs.runs import RunRow

_SEARCH_S = 0.3
_FIRST_LOOK = 200
_MOST_AT_ONCE = 3_200
_QUICK_S = 0.05
_MOST_SEARCHED = 20_000


@dataclass(frozen=True, slots=True)
class RunPage(Page[RunRow]):
    """A page of runs. `cursor`: where the next page begins, before that row; None for the last page."""

    cursor: int | None


async def list_page(database: Database, org_id: str, filters: RunFilters, paging: Paging, text: str | None) -> RunPage:
    """A page of runs, newest first."""
    if text:
        return await _search(database, org_id, filters, paging.limit, text)
    found = await database.read(lambda tx: list_runs(tx, org_id, filters, paging.limit, paging.offset))
    shown, has_more = found[: paging.limit], len(found) > paging.limit
    return RunPage(shown, paging.limit, paging.offset, has_more, shown[-1].pk if has_more else None)


async def _search(database: Database, org_id: str, filters: RunFilters, limit: int, text: str) -> RunPage:
    """Looks through the newest runs of the filters until a page is full. What it costs depends on how large their rows
    are; so it looks at few first, and stops after a while: the page may have fewer runs than asked for, and more
    pages follow."""
    found: list[RunRow] = []
    end = clock.monotonic_s() + _SEARCH_S
    together, searched = _FIRST_LOOK, 0
    while searched < _MOST_SEARCHED and (not searched or clock.monotonic_s() < end):
        here, most, begun = filters, together, clock.monotonic_s()

        def look(tx: Tx, here: RunFilters = here, most: int = most) -> tuple[list[int], list[RunRow]]:
            pks = list_pks(tx, org_id, here, most)
            return pks, find_text(tx, org_id, pks, text)

        pks, rows = await database.read(look)
        found += [row for row in rows if _shows(row, text)]
        if len(found) > limit:
            return RunPage(found[:limit], limit, 0, True, found[limit - 1].pk)
        if len(pks) < most:
            return RunPage(found, limit, 0, False, None)
        searched += len(pks)
        filters = replace(filters, before=pks[-1])
        if len(found) == limit:
            break
        if clock.monotonic_s() - begun < _QUICK_S:
            together = min(_MOST_AT_ONCE, 2 * together)
    return RunPage(found, limit, 0, True, filters.before)


def _shows(row: RunRow, text: str) -> bool:
    """Whether a list shows the text: the store also finds it in the names of an error's fields."""
    wanted = text.casefold()
    return any(wanted in one.casefold() for one in _texts(row))


def _texts(row: RunRow) -> Iterator[str]:
    yield from (one for one in (row.id, row.workflow_name, row.trigger_source, row.summary) if one)
    if row.error:
        yield from (value for value in loads(row.error).values() if isinstance(value, str))
