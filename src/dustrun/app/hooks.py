"""Outbound hooks: their client, their host and their use cases."""

from __future__ import annotations

from dustrun.app.base import Base
from dustrun.core.hooks import Schedule
from dustrun.operations.declaration.parts import HookParts
from dustrun.records import dataclass
from dustrun.services.hooks.deliveries import Deliveries
from dustrun.services.hooks.hooks import Hooks
from dustrun.services.hooks.host import HookHost
from dustrun.services.hooks.worker import HookDeps


@dataclass(frozen=True, slots=True)
class HookServices:
    """The sender, and the part for the API."""

    host: HookHost
    parts: HookParts


def make_hooks(base: Base) -> HookServices:
    """The host is not started yet."""
    settings = base.settings
    deps = HookDeps(
        database=base.database,
        writer=base.writer,
        vault=base.vault,
        http=base.hook_http,
        schedule=Schedule(settings.hook_retry_s, settings.hook_disable_days),
        base_url=settings.base_url(),
        timeout_s=settings.hook_timeout_s,
    )
    host = HookHost(deps, base.hub)
    hooks = Hooks(base.database, base.writer, base.vault, base.hook_http, host, settings.max_hooks)
    return HookServices(host, HookParts(hooks=hooks, deliveries=Deliveries(deps, host)))
