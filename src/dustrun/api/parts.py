"""Everything that the routes reach, handed over by the composition root."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from dustrun.api.limits import RateLimiter
from dustrun.services.access.api_keys import Keys
from dustrun.services.access.organizations import Organizations
from dustrun.services.access.usage import Usage
from dustrun.services.data.conversations import Conversations
from dustrun.services.maintenance.retention import Retention
from dustrun.services.workflows.versions import Versions
from dustrun.services.workflows.workflows import Workflows
from dustrun.settings import Settings
from dustrun.storage.db.database import Database
from dustrun.storage.db.writer import Writer

T = TypeVar("T")
Gauges = Mapping[str, tuple[str, float]]  # by name: help and value
_SCOPE_KEY = "dustrun.parts"


def _always() -> bool:
    return True


def _no_gauges() -> Gauges:
    return {}


@dataclass(slots=True, kw_only=True)
class Parts:
    """The parts behind the API. `ready()` tells whether the server may take work, `gauges()` how much it holds."""

    settings: Settings
    database: Database
    writer: Writer
    catalog: Any
    keys: Keys
    organizations: Organizations
    workflows: Workflows
    versions: Versions
    conversations: Conversations
    usage: Usage
    retention: Retention
    runs: Any = None
    starts: Any = None
    run_reports: Any = None
    streams: Any = None
    variables: Any = None
    tables: Any = None
    approvals: Any = None
    transactions: Any = None
    resumes: Any = None
    vault: Any = None
    chains: Any = None
    wallets: Any = None
    wallet_policies: Any = None
    wallet_funds: Any = None
    dust_plans: Any = None
    funds: Any = None
    connectors: Any = None
    ready: Callable[[], bool] = _always
    gauges: Callable[[], Gauges] = _no_gauges
    limiter: RateLimiter = field(init=False)
    _kept: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """The limiter follows from the settings."""
        self.limiter = RateLimiter(self.settings.rate_limit_per_second)

    def once(self, name: str, make: Callable[[], T]) -> T:
        """What `make` returned the first time: for what never changes while the server runs."""
        if name not in self._kept:
            self._kept[name] = make()
        kept: T = self._kept[name]
        return kept


def make_parts(
    settings: Settings,
    database: Database,
    writer: Writer,
    catalog: Any,
    *,
    runs: Any = None,
    streams: Any = None,
    ready: Callable[[], bool] = _always,
) -> Parts:
    """The parts with every service of this layer made from the store and the catalogue."""
    keys = Keys(database, writer)
    if streams is not None:
        keys.on_revoked = streams.end_key
    return Parts(
        settings=settings,
        database=database,
        writer=writer,
        catalog=catalog,
        keys=keys,
        organizations=Organizations(database, writer),
        workflows=Workflows(database, writer, catalog),
        versions=Versions(database),
        conversations=Conversations(database, writer),
        retention=Retention(database, writer, settings.retention_days),
        usage=Usage(database, writer, settings.request_audit_rows),
        runs=runs,
        streams=streams,
        ready=ready,
    )


def put_parts(scope: MutableMapping[str, Any], parts: Parts) -> None:
    """Attaches the parts to one request."""
    scope[_SCOPE_KEY] = parts


def parts_of(scope: MutableMapping[str, Any]) -> Parts:
    """The parts behind one request."""
    parts: Parts = scope[_SCOPE_KEY]
    return parts
