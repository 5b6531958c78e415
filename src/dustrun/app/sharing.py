"""A shared store: what one process hears from the others, tells them, and leaves to them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import field
from functools import partial
from typing import Any

from dustrun import log
from dustrun.app.base import Base
from dustrun.app.hooks import HookServices
from dustrun.app.money import Money
from dustrun.app.triggers import Triggers
from dustrun.engine.hosts.claims import Claims
from dustrun.operations.declaration.parts import Parts
from dustrun.records import dataclass
from dustrun.services.sharing.bus import Bus
from dustrun.services.sharing.election import Election, Leases
from dustrun.services.sharing.presence import Arrival, Presence, check_in
from dustrun.services.streaming.broadcaster import ActivityNotice, CommittedRun
from dustrun.storage.db.database import Database
from dustrun.storage.sharing.notifications import Channel

_logger = log.get(__name__)


@dataclass(slots=True)
class Sharing:
    """This process among the others."""

    presence: Presence
    bus: Bus
    arrival: Arrival
    leases: Leases
    claims: Claims
    looks: set[asyncio.Task[None]] = field(default_factory=set)

    def on_gap(self, look: Callable[[], Awaitable[None]]) -> None:
        """Has something read from the tables that a lost wake-up may have been about."""

        def begin() -> None:
            task = asyncio.get_running_loop().create_task(_safely(look))
            self.looks.add(task)
            task.add_done_callback(self.looks.discard)

        self.bus.on_gap.append(begin)

    async def stop(self) -> None:
        """Ends the looks that are under way."""
        looks = list(self.looks)
        for task in looks:
            task.cancel()
        await asyncio.gather(*looks, return_exceptions=True)


async def _safely(look: Callable[[], Awaitable[None]]) -> None:
    try:
        await look()
    except Exception as error:
        _logger.failed("the tables could not be looked at", error)


async def join(
    base: Base, stack: contextlib.AsyncExitStack, open_channel: Callable[[Database], Channel]
) -> Sharing | None:
    """Joins the processes of the store; None if it has only this one."""
    if base.leases is None:
        return None
    await check_in(base.database, base.writer, base.settings)
    presence = Presence(base.database, base.writer, base.settings)
    bus = Bus(base.database, lambda: presence.is_alone, open_channel)
    advances = "engine" in base.settings.roles
    claims = Claims(
        base.database,
        base.writer,
        bus,
        lambda: presence.share("engine"),
        advances=advances,
        most_free=base.settings.max_accepted_runs,
        has_engines=lambda: presence.has("engine"),
    )
    sharing = Sharing(presence, bus, Arrival(bus, presence), base.leases, claims)

    def left() -> None:
        presence.look()
        claims.look_soon()

    bus.on("came", presence.look)
    bus.on("left", left)
    _connect_streams(base, bus, claims)
    stack.push_async_callback(bus.stop)
    stack.callback(bus.tell, "left")
    stack.push_async_callback(presence.stop)
    stack.push_async_callback(sharing.stop)
    await presence.start()
    return sharing


async def connect(
    sharing: Sharing,
    parts: Parts,
    money: Money,
    triggers: Triggers,
    hooks: HookServices,
    stack: contextlib.AsyncExitStack,
) -> None:
    """Connects the services with those of other processes, and begins to listen."""
    _connect_keys(sharing, parts)
    _connect_turns(sharing, parts)
    _connect_hosts(sharing.bus, parts, money, triggers, hooks)
    sharing.on_gap(parts.triggers.backtests.take_over)
    sharing.presence.on_look.append(lambda: _divide_limits(sharing, parts))
    _divide_limits(sharing, parts)
    await sharing.bus.start()
    await sharing.arrival.announce()
    sends = Election(sharing.leases, "hooks", hooks.host.start, hooks.host.stop)
    stack.push_async_callback(sends.stop)
    await sends.start()
    if parts.settings.sign_in_issuer is not None:
        checks = parts.access.sign_in_checks
        asks = Election(sharing.leases, "sign-in-checks", checks.start, checks.stop)
        stack.push_async_callback(asks.stop)
        await asks.start()


def _connect_streams(base: Base, bus: Bus, claims: Claims) -> None:
    """Readers of events read those of all processes; who creates runs hears that engines advance them."""
    hub = base.hub

    def published(run: CommittedRun, is_activity: bool, has_ended: bool) -> None:
        bus.tell("run", run.org_id, run.id, run.pk, is_activity, has_ended)

    def hear(org_id: str, run_id: str, run_pk: int, is_activity: bool, has_ended: bool) -> None:
        claims.hear_of(run_pk)
        hub.hear((org_id, run_id), run_pk, is_activity=is_activity, has_ended=has_ended)

    def announced(org_id: str, notice: ActivityNotice) -> None:
        bus.tell("notice", org_id, *notice)

    def hear_notice(org_id: str, *values: Any) -> None:
        hub.hear_notice(org_id, ActivityNotice(*values))

    hub.on_published.append(published)
    hub.on_announced.append(announced)
    bus.on("run", hear)
    bus.on("notice", hear_notice)
    bus.on_gap.append(hub.lose_all)


def _connect_keys(sharing: Sharing, parts: Parts) -> None:
    """A key that one process revokes, and a session that it ends, end in all of them."""
    keys = parts.access.keys
    keys.on_revoked_here.append(partial(sharing.bus.tell, "revoked"))
    sharing.bus.on("revoked", keys.hear_revoked)
    sharing.on_gap(keys.look_for_revoked)
    keys.on_reach_here.append(partial(sharing.bus.tell, "reach"))
    sharing.bus.on("reach", keys.hear_reach)
    sharing.on_gap(keys.look_for_reach)
    sessions = parts.access.sessions
    sessions.on_ended_here.append(partial(sharing.bus.tell, "session"))
    sharing.bus.on("session", sessions.hear_ended)
    sharing.on_gap(sessions.look_for_ended)


def _connect_turns(sharing: Sharing, parts: Parts) -> None:
    """A conversation is read, and a launch decided, in any process."""
    bus, turns = sharing.bus, parts.data.turns
    turns.on_event.append(partial(bus.tell, "turn"))
    parts.launches.on_decided.append(lambda row: bus.tell("decided", row.id))
    bus.on("turn", turns.hear_event)
    bus.on("decided", turns.hear_decided)
    bus.on_gap.append(turns.look)
    sharing.on_gap(turns.take_over)


def _connect_hosts(bus: Bus, parts: Parts, money: Money, triggers: Triggers, hooks: HookServices) -> None:
    """Has changes from here watched, tracked and sent by whichever process does so."""
    trackers, host = money.outbox.trackers, triggers.host
    for source in (triggers.arming, triggers.intake):
        source.on_changed.append(partial(bus.tell, "workflow"))
    trackers.on_poked.append(partial(bus.tell, "chain"))
    parts.data.tables.on_watched.append(partial(bus.tell, "tables"))
    parts.data.connectors.on_changed.append(partial(bus.tell, "connector"))
    hooks.host.on_changed.append(partial(bus.tell, "hook"))
    bus.on("workflow", host.changed)
    bus.on("tables", triggers.polls.tables_changed)
    bus.on("connector", triggers.connector_changed)
    bus.on("chain", trackers.hear_poke)
    bus.on("hook", hooks.host.look)


def _divide_limits(sharing: Sharing, parts: Parts) -> None:
    """Each process that answers calls lets its share of them through."""
    among, access = sharing.presence.share("api"), parts.access
    for limiter in (
        access.limiter,
        access.sign_in_begins,
        access.webhook_guesses,
        access.webhook_refusals,
        access.form_guesses,
        access.form_requests,
        access.webhook_requests,
        access.form_submissions,
    ):
        limiter.divide(among)
    access.wrong_keys.divide(among)
    access.wrong_tokens.divide(among)
