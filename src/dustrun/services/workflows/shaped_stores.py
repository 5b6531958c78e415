"""The tables and variables by which something is paid: who writes them, and what shapes that."""

from __future__ import annotations

from typing import Any, Final

from dustrun.core.sources.kept import kept_of, of_part
from dustrun.core.sources.report import describe, list_sources
from dustrun.core.sources.source import ANY, Source, parse_source
from dustrun.services.access.hands import table_object
from dustrun.services.access.principal import Principal
from dustrun.services.workflows.closure import Lookup, key_of
from dustrun.services.workflows.spend_gate import SpendGate
from dustrun.storage.access import hands
from dustrun.storage.data import managed_tables, named, store_sources
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.workflows import workflows

Json = dict[str, Any]
Version = tuple[str, int]
_KINDS: Final = ("table", "variable")
_MOST: Final = 20
"""Stores of one answer, writers of a store, and keys that wrote it."""


class ShapedStores:
    """Shows what shapes the tables and variables that can change a money field."""

    def __init__(self, database: Database, gate: SpendGate) -> None:
        self._database = database
        self._gate = gate

    async def add_to(self, principal: Principal, spends: list[Json], oldest: int = store_sources.NOW) -> list[Json]:
        """Spends as they are shown, each with its stores. `oldest`: the pk of the first run that may have read them."""
        read = [_read_by(one) for one in spends]
        wanted = sorted(set[str]().union(*read))[:_MOST]
        found = {one: await self._show(principal, parse_source(one), oldest) for one in wanted}
        return [
            {**spend, "stores": [shown for one in sorted(own) if (shown := found.get(one)) is not None]}
            for spend, own in zip(spends, read, strict=True)
        ]

    async def _show(self, principal: Principal, store: Source, oldest: int) -> Json | None:
        """A store; None if it is not there, or belongs to a workflow that the key may not see."""
        if store.workflow is not None and not principal.may_use_workflow(store.workflow):
            return None
        about = await self._database.read(lambda tx: _about(tx, principal.org_id, store, oldest))
        if about is None:
            return None
        sources, versions, keys = about
        nodes: list[Json] = []
        for version in versions:
            by_node = await self._written_by(principal, version, str(store))
            sources |= frozenset[str]().union(*by_node.values())
            told = by_node if principal.may_use_workflow(version[0]) else ()
            nodes += [{"workflowId": version[0], "version": version[1], "nodeId": node} for node in told]
        listed = list_sources((parse_source(one) for one in sources), principal.may_use_workflow)
        return {"source": str(store), "says": describe(store), "writers": nodes, "keys": keys, **listed}

    async def _written_by(self, principal: Principal, version: Version, store: str) -> dict[str, frozenset[str]]:
        """By node, what shapes what a version itself writes to a store."""

        def query(tx: Tx) -> dict[str, frozenset[str]]:
            lookup = Lookup(tx, principal.org_id)
            row = lookup.find(version[0])
            closure = self._gate.closures.resolve(lookup, row, version[1]) if row is not None else None
            writes = self._gate.shapes.writes(lookup, closure) if closure is not None else {}
            own = {place[1]: one for place, one in writes.items() if place[0] == key_of(*version)}
            return {node: kept_of(map(str, one.data | one.decides)) for node, one in own.items() if store in one.stores}

        return await self._gate.slicing(lambda: self._database.read(query))


def _read_by(spend: Json) -> set[str]:
    """The tables and variables that can change a money field of a spend, as it is shown."""
    shown = (source for level in spend["fields"] for source in level["sources"] if source["kind"] in _KINDS)
    return {one["source"] for one in shown if not one["source"].endswith(ANY)}


def _about(tx: Tx, org_id: str, store: Source, oldest: int) -> tuple[frozenset[str], list[Version], list[str]] | None:
    """The kept sources of a store, the versions that may write it, and the keys that have."""
    if store.kind == "table":
        table = managed_tables.find(tx, org_id, store.name)
        if table is None:
            return None
        object_, versions = table.id, named.list_writers(tx, org_id, table.id, table.name, _MOST)
        keys = hands.list_of(tx, org_id, "table", table_object(tx, org_id, table.name))
    else:
        object_, row = f"{store.name}/{store.path[0]}", workflows.find(tx, org_id, store.name)
        numbers = {row.draft_version, row.live_version} if row is not None else set()
        versions = [(store.name, number) for number in numbers if number is not None]
        keys = hands.list_of(tx, org_id, "variable", object_)
    kept = of_part(store_sources.list_of(tx, object_, oldest=oldest), ANY)
    return kept, versions, [one.key_id for one in keys if one.key_id != hands.UNKNOWN][:_MOST]
