"""Judges what the items of a loop will spend before the first begins: refuses, asks, or lets the loop open.

Nothing here signs, and what an item spends is judged for itself once more. So after a restart all of it may be done
again; only a question is looked up first, for nobody is asked twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any, Final, Protocol

from dustrun.core.money.movements import find_spots
from dustrun.core.run.journal import AHEAD, OPENS_AGAIN
from dustrun.core.run.plan import Start
from dustrun.core.workflow.definition import ConnectorReference
from dustrun.engine.node.context import NodeContext
from dustrun.engine.node.loop_items import FoundSpend, LoopItems
from dustrun.engine.node.mode import RunMode
from dustrun.engine.node.outcome import Failed, Job, LoopRefusal, OpenedLoop, Outcome, Suspended, of_error
from dustrun.engine.spend.deps import SpendDeps
from dustrun.engine.spend.live import as_failed, plan_spend, request_at
from dustrun.errors import CommitUnknown, DustrunError, StoreUnavailable, Temporary
from dustrun.records import dataclass
from dustrun.sdk.chain import WalletView
from dustrun.sdk.threads import run_beside
from dustrun.services.outbox.loop_judgement import LoopSpend, LoopVerdicts
from dustrun.services.outbox.policy_check import denial
from dustrun.services.outbox.spend_status import IntentFailure, SpendRequest
from dustrun.services.runs.engine_port import RunFacts
from dustrun.settings import Settings

_RESOLVED: Final = 50
"""Items that a thread resolves before it lets others go on."""
_PLANNED: Final = 20
_SLICE: Final = 500
"""Refusals that are noted before others have a turn."""
_SHOWN, _LISTED, _MAX = 5, 20, "max"
Json = dict[str, Any]


class Inputs(Protocol):
    """Makes contexts of nodes."""

    def context(self, path: str, emit: Callable[[str, Json], None], wallet: WalletView | None = None) -> NodeContext:
        """The context of a node at a path that has begun."""
        ...


@dataclass(slots=True)
class LoopStart:
    """A loop that is about to begin. `items` None: a person has been asked, and it goes on from there."""

    start: Start
    opened: OpenedLoop
    items: LoopItems | None = None
    asked: tuple[str, ...] = ()


class LoopSpends:
    """Judges the loops of one run."""

    def __init__(self, deps: SpendDeps, facts: RunFacts, mode: RunMode, inputs: Inputs, settings: Settings) -> None:
        self._deps = deps
        self._facts = facts
        self._mode = mode
        self._inputs = inputs
        self._settings = settings

    async def begin(self, loop: LoopStart, now_ms: int) -> Outcome:
        """The open loop; its failure if a spend is refused that must not be; or that it waits for a person. Raises
        `StoreUnavailable` or `CommitUnknown` if the store could not be reached: it may be repeated."""
        try:
            outcome = await self._begin(loop, now_ms)
        except (StoreUnavailable, CommitUnknown):
            raise
        except DustrunError as error:
            outcome = of_error(error)
        if isinstance(outcome, Failed) and loop.opened.is_again:
            # what a retry kept belongs to these items, so another attempt does not evaluate them again
            outcome.facts = {**loop.opened.facts(), OPENS_AGAIN: True}
        return outcome

    async def _begin(self, loop: LoopStart, now_ms: int) -> Outcome:
        if loop.items is None:
            return await self._answered(loop)
        if self._mode.changes_outside:
            asked = await self._deps.loops.find_asked(self._request(loop.start.path))
            if asked:
                return await self._answered(LoopStart(loop.start, loop.opened, asked=tuple(asked)))
        return await self._judge(loop, loop.items, now_ms)

    async def _judge(self, loop: LoopStart, items: LoopItems, now_ms: int) -> Outcome:
        found = await self._resolve(items, loop.opened)
        bad = {one.path: one.prepared for one in found if isinstance(one.prepared, Failed) and not one.may_fail}
        spends, may_fail = list[LoopSpend](), list[bool]()
        wallets: dict[ConnectorReference | None, WalletView] = {}
        for start in range(0, len(found), _PLANNED):
            part = found[start : start + _PLANNED]
            planned = await asyncio.gather(*(self._plan(loop.start.path, one, wallets) for one in part))
            for one, spend in zip(part, planned, strict=True):
                if spend is not None:
                    spends.append(spend)
                    may_fail.append(one.may_fail)
        if self._facts.id != self._facts.root_run_id and self._mode.changes_outside:
            stored = await self._deps.loops.find_stored(spends)
            may_fail = [one for one, is_stored in zip(may_fail, stored, strict=True) if not is_stored]
            spends = [one for one, is_stored in zip(spends, stored, strict=True) if not is_stored]
        if not spends and not bad:
            return loop.opened
        verdicts = await self._verdicts(loop, spends, may_fail, now_ms)
        refused = dict[str, Failed | LoopRefusal](bad)
        for number, (place, (item, verdict)) in enumerate(sorted(verdicts.denied.items()), 1):
            if number % _SLICE == 0:
                await asyncio.sleep(0)
            if may_fail[place]:
                loop.opened.refused[spends[place].request.path] = LoopRefusal(item, verdict).stored()
            else:
                refused[spends[place].request.path] = LoopRefusal(item, verdict)
        if refused:
            return _refusal(refused, len(spends) + len(bad))
        if not verdicts.asks or not self._mode.changes_outside:
            return loop.opened
        asked = await self._deps.loops.ask(self._request(loop.start.path), spends, verdicts)
        return await self._answered(LoopStart(loop.start, loop.opened, asked=tuple(asked))) if asked else loop.opened

    async def _resolve(self, items: LoopItems, opened: OpenedLoop) -> list[FoundSpend]:
        spends, found = items.spends(opened), list[FoundSpend]()
        while len(found) <= self._settings.max_executions:
            part = await run_beside(lambda: list(islice(spends, _RESOLVED)))
            if not part:
                break
            found += part
        return found

    async def _plan(
        self, path: str, found: FoundSpend, wallets: dict[ConnectorReference | None, WalletView]
    ) -> LoopSpend | None:
        """The spend of an item; None if it is not known before its turn, or not carried out in this mode."""
        job = found.prepared
        if not isinstance(job, Job) or not _is_known(job):
            return None
        try:
            if job.wallet not in wallets:
                wallets[job.wallet] = await self._deps.wallet(self._facts, job.wallet)
            wallet = wallets[job.wallet]
            context = self._inputs.context(path, _nothing, wallet)
            if self._mode.changes_outside:
                spend = await self._deps.live.plan_ahead(job, self._facts, context)
            else:
                spend = await plan_spend(job, context, self._settings)
        except Temporary:
            raise
        except DustrunError:
            return None  # its own turn says why
        if spend.signatures or not spend.intents:
            return None
        request = request_at(self._facts, found.path, wallet.id, is_dust=job.is_dust)
        is_fixed = not any(one.min_out_field or one.max_in_field for one in job.action.funds_movement)
        return LoopSpend(request, job.start.node_id, wallet.address, spend, is_fixed)

    async def _verdicts(
        self, loop: LoopStart, spends: Sequence[LoopSpend], may_fail: Sequence[bool], now_ms: int
    ) -> LoopVerdicts:
        if not spends:
            return LoopVerdicts()
        stops = loop.opened.on_item_error == "stop"
        if self._mode.changes_outside:
            return await self._deps.loops.judge(self._request(loop.start.path), spends, may_fail, stops=stops)
        return await self._deps.simulated_chains.judge_loop(self._facts, spends, now_ms, stops=stops)

    def _request(self, path: str) -> SpendRequest:
        return request_at(self._facts, path, "", is_dust=self._mode.logs_dust_plan)

    def _wait(self, loop: LoopStart, until: int) -> Suspended:
        opened = loop.opened
        kept = {**opened.facts(), "assumed": opened.assumed, "approvals": [*loop.asked]}
        if opened.is_again:
            kept[OPENS_AGAIN] = True
        return Suspended(until, {AHEAD: kept}, answerable=True, note={"waitsFor": "approval"})

    async def _answered(self, loop: LoopStart) -> Outcome:
        """Goes on after a person has decided, or the time for that is over."""
        request = self._request(loop.start.path)
        answer = await self._deps.loops.find_answer(request, loop.asked)
        if isinstance(answer, int):
            return self._wait(loop, answer)
        if isinstance(answer, IntentFailure) and loop.opened.on_item_error == "fail":
            await self._deps.loops.refuse(request, loop.asked, answer)
            return as_failed(answer, {})
        return loop.opened  # an item that may fail says so itself


def waiting_loop(start: Start, facts: Mapping[str, Any]) -> LoopStart:
    """A loop about which a person was asked, from its facts."""
    kept = facts[AHEAD]
    return LoopStart(start, opened_of(kept), asked=tuple(kept["approvals"]))


def opened_of(facts: Mapping[str, Any]) -> OpenedLoop:
    """The items of a loop that were evaluated before, from its facts."""
    return OpenedLoop(
        facts["items"],
        facts["concurrency"],
        facts["onItemError"],
        facts.get("assumed", False),
        facts.get("mostItems"),
        facts.get("refused", {}),
        OPENS_AGAIN in facts,
    )


def _is_known(job: Job) -> bool:
    """Whether its amounts are numbers: `max` depends on what the items before have left."""
    movements = (one for one in job.action.funds_movement if one.takes_max)
    return not any(spot.amount == _MAX for one in movements for spot in find_spots(one, job.resolved))


def _refusal(refused: Mapping[str, Failed | LoopRefusal], count: int) -> Failed:
    """The failure of a loop that names each spend which is refused, the first ones with their reasons."""
    told = [(path, one if isinstance(one, Failed) else denial(one.verdict)) for path, one in _first(refused, _LISTED)]
    first = [f"{path}: {one.message}" for path, one in told[:_SHOWN]]
    rest = f" And {len(refused) - _SHOWN} more." if len(refused) > _SHOWN else ""
    message = f"{len(refused)} of the loop's {count} spends are refused, so none is signed. {' '.join(first)}{rest}"
    details = [{"field": path, "message": one.message} for path, one in told]
    return Failed(told[0][1].code, message, details=details)


def _first(refused: Mapping[str, Failed | LoopRefusal], most: int) -> list[tuple[str, Failed | LoopRefusal]]:
    return list(islice(refused.items(), most))


def _nothing(_kind: str, _data: Json) -> None:
    """A log that drops everything: planning before its turn logs nothing."""
