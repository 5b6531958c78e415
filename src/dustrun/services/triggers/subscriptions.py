"""Subscriptions: what the triggers of published versions watch for, in whose name, and how far they have come."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import field
from functools import partial
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from dustrun.catalog import Catalog
from dustrun.core.values import exact_json
from dustrun.core.workflow.definition import ConnectorReference
from dustrun.records import dataclass
from dustrun.sdk.threads import run_beside
from dustrun.sdk.trigger import Trigger
from dustrun.services.access.principal import Principal
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.triggers import subscriptions as rows
from dustrun.storage.triggers.subscriptions import ARMED, FAILED, SubscriptionRow

_PAGE = 1000
CHAIN: Final = "chain"
"""The kind of triggers that watch a chain."""
_MOST_AT_ONCE: Final = 4096
"""Characters of configs that the event loop parses itself: some milliseconds."""
CONNECTOR: Final = "$connector"
"""The name of the node's connector in a stored config, beside the trigger's fields, none of which begins so."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """A subscription with its trigger, its checked config, and the connector that its node names."""

    row: SubscriptionRow
    trigger: Trigger = field(repr=False)
    config: Any = field(repr=False)
    connector: ConnectorReference | None = None

    @property
    def id(self) -> str:
        """Its public id."""
        return self.row.id

    @property
    def pk(self) -> int:
        """Its row id."""
        return self.row.pk

    @property
    def kind(self) -> str:
        """The kind of its trigger, which says who watches for it."""
        return self.trigger.kind

    @property
    def cursor(self) -> Any:
        """How far it has come; None: it begins at `row.armed_at`."""
        return exact_json.loads(self.row.cursor) if self.row.cursor is not None else None

    @property
    def is_armed(self) -> bool:
        """Whether it watches."""
        return self.row.state == ARMED

    @property
    def is_watched(self) -> bool:
        """Whether its source has it: one of a chain that was stopped goes on if the chain is there again."""
        return self.is_armed or (self.row.state == FAILED and self.kind == CHAIN)


def principal_text(principal: Principal) -> str:
    """A principal as it is recorded with what it publishes."""
    return exact_json.dumps_text(
        {
            "keyId": principal.key_id,
            "permissions": sorted(principal.permissions),
            "workflowIds": None if principal.workflow_ids is None else sorted(principal.workflow_ids),
            "walletIds": None if principal.wallet_ids is None else sorted(principal.wallet_ids),
            "connectorIds": None if principal.connector_ids is None else sorted(principal.connector_ids),
        }
    )


def recorded_principal(row: SubscriptionRow) -> Principal:
    """The principal in whose name a subscription runs."""
    return _principal(row.principal, row.org_id)


@functools.lru_cache(maxsize=1000)
def _principal(recorded: str, org_id: str) -> Principal:
    """Asked for several times by each event, while few keys publish."""
    found = exact_json.loads(recorded)
    return Principal(
        found["keyId"],
        org_id,
        frozenset(found["permissions"]),
        _ids(found["workflowIds"]),
        _ids(found["walletIds"]),
        connector_ids=_ids(found.get("connectorIds")),  # older ones were recorded when there was no such limit
    )


def _ids(found: list[str] | None) -> frozenset[str] | None:
    return None if found is None else frozenset(found)


class Subscriptions:
    """Reads subscriptions for those who watch."""

    def __init__(self, database: Database, catalog: Catalog) -> None:
        self._database = database
        self._catalog = catalog
        self._parse = functools.lru_cache(maxsize=_PAGE)(self._parse_config)  # each event needs its own

    async def list_armed(self) -> list[Subscription]:
        """Every watched subscription of the store; those whose type is no longer installed are left out."""
        found: list[Subscription] = []
        for list_some in (rows.list_armed, rows.list_failed):
            after: int | None = 0
            while after is not None:
                page = await self._database.read(partial(list_some, after=after, count=_PAGE))
                found += [one for row in page if (one := self.parsed(row)) is not None and one.is_watched]
                after = page[-1].pk if len(page) == _PAGE else None
        return found

    async def list_of(self, workflow_id: str) -> list[Subscription]:
        """A workflow's subscriptions of any state."""
        found = await self._database.read(lambda tx: rows.list_of(tx, workflow_id))
        return [one for one in await self.parsed_all(found) if one is not None]

    async def find(self, subscription_id: str) -> Subscription | None:
        """A subscription as it is now."""
        return await self._database.read(lambda tx: self.find_in(tx, subscription_id))

    def find_in(self, tx: Tx, subscription_id: str) -> Subscription | None:
        """A subscription as the transaction sees it."""
        row = rows.find(tx, subscription_id)
        return self.parsed(row) if row is not None else None

    async def parsed_all(self, found: Sequence[SubscriptionRow]) -> list[Subscription | None]:
        """The subscriptions of rows, as `parsed` has them: a schema in a config takes long to check."""
        if sum(len(row.config) for row in found) > _MOST_AT_ONCE:
            return await run_beside(lambda: [self.parsed(row) for row in found])
        return [self.parsed(row) for row in found]

    def parsed(self, row: SubscriptionRow) -> Subscription | None:
        """The subscription of a row; None if its type is not installed or does not take its config any more."""
        trigger = self._catalog.triggers.get(row.type)
        found = self._parse(row.type, row.config) if trigger is not None else None
        return Subscription(row, trigger, *found) if trigger is not None and found is not None else None

    def _parse_config(self, kind: str, text: str) -> tuple[BaseModel, ConnectorReference | None] | None:
        stored = exact_json.loads(text)
        named = stored.pop(CONNECTOR, None)
        try:
            reference = ConnectorReference.model_validate(named) if named is not None else None
            return self._catalog.triggers[kind].config.model_validate(stored), reference
        except ValidationError:
            return None
