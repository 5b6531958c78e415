"""Notices when chain triggers stand still, tells it, and keeps how far each is where every server can read it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from dustrun import clock, log, metrics
from dustrun.core.triggers.chain.watch import FINALIZED, target_of
from dustrun.trigger_host.chain.scanner import Parts
from dustrun.trigger_host.chain.watched import Watched

_logger = log.get(__name__)
_SHORTEST_S: Final = 60.0
_SAVED_EVERY_S: Final = 5.0
_BLOCKS: Final = 20
_STALLS = metrics.counter("dustrun_trigger_stalls", "Chain triggers that stood still, by chain.", "chain")
_STALLED = metrics.gauge("dustrun_triggers_stalled", "Chain triggers that stand still now, by chain.", "chain")
_BEHIND = metrics.gauge("dustrun_trigger_lag_blocks", "Blocks that the slowest chain trigger lags, by chain.", "chain")


class Stalls:
    """The stalls of one chain. `stalled_s`: after how long (None: a minute, or the time of 20 blocks)."""

    def __init__(self, chain_id: int, parts: Parts, stalled_s: float | None) -> None:
        network = parts.reader.chain.network
        self._chain_id = chain_id
        self._parts = parts
        self._is_local = network.is_local
        self._limit_s = max(_SHORTEST_S, _BLOCKS * network.block_time_ms / 1000) if stalled_s is None else stalled_s
        self._head = -1
        self._grew_s = clock.monotonic_s()
        self._trouble_s: float | None = None
        self._saved_s = -1e9
        self._saved: dict[str, Any] = {}

    async def tell(self, watched: Sequence[Watched], finalized: int | None, trouble: str | None) -> None:
        """Tells who stands still and who goes on again. `trouble`: why nothing was seen of the chain, if so."""
        newest, now_s = self._parts.headers.chain.newest, clock.monotonic_s()
        head = newest.number if newest is not None else -1
        if head != self._head:
            self._head, self._grew_s = head, now_s
        if trouble is None:
            self._trouble_s = None
        elif self._trouble_s is None:
            self._trouble_s = now_s
        since_s = now_s if self._trouble_s is None else self._trouble_s
        if trouble is None and not self._is_local and now_s - self._grew_s >= self._limit_s:
            since_s = self._grew_s
            trouble = f"The chain has had no block after {head} for {round(now_s - self._grew_s)} seconds."
        changed = False
        for one in watched:
            well_s = min(one.well_s, since_s)
            is_still = now_s - well_s >= self._limit_s
            if is_still != (one.stalled_ms is not None) and not one.is_failed:
                changed |= await (self._stall(one, trouble, well_s) if is_still else self._recover(one, trouble))
        if changed or now_s - self._saved_s >= _SAVED_EVERY_S:
            await self._save(watched, finalized, trouble)

    async def _stall(self, one: Watched, trouble: str | None, well_s: float) -> bool:
        reason = one.error or trouble or "It takes long over the events that it has found."
        one.stalled_ms = clock.now_ms() - round(1000 * (clock.monotonic_s() - well_s))
        _STALLS.add(str(self._chain_id))
        _logger.warning("a chain trigger stands still", subscription=one.sub.id, reason=reason)
        await self._parts.store.stall(one.sub, one.stalled_ms, reason, self._facts(one))
        return True

    async def _recover(self, one: Watched, trouble: str | None) -> bool:
        if trouble is not None or one.at is None or one.stalled_ms is None:
            return False
        await self._parts.store.recover(one.sub, one.stalled_ms, self._facts(one))
        one.stalled_ms = None
        return True

    def _facts(self, one: Watched) -> dict[str, Any]:
        return {
            "chainId": self._chain_id,
            "lastScannedBlock": one.at.number if one.at is not None else None,
            "head": max(self._head, 0),
        }

    async def _save(self, watched: Sequence[Watched], finalized: int | None, trouble: str | None) -> None:
        """Stores how far each subscription is, now and then: the targets that most have reached, and those behind."""
        targets: dict[str, int] = {}
        behind: dict[str, Any] = {}
        for one in watched:
            if one.watch.confirmations == FINALIZED and finalized is None:
                target = -1
            else:
                target = target_of(one.watch, self._head, finalized)
            targets[str(getattr(one.sub.config, "confirmations", None))] = target
            at = one.at.number if one.at is not None else None
            if at is None or at < target or one.error is not None:
                lag = max(0, target - at) if at is not None else None
                behind[one.sub.id] = {"at": at, "lag": lag, "error": one.error}
        self._measure(watched, behind)
        state = {"head": self._head, "targets": targets, "behind": behind, "error": trouble}
        self._saved_s = clock.monotonic_s()
        if state != self._saved:
            await self._parts.store.save_progress(self._chain_id, state)
            self._saved = state

    def _measure(self, watched: Sequence[Watched], behind: dict[str, Any]) -> None:
        name = str(self._chain_id)
        _STALLED.set(sum(one.stalled_ms is not None or one.is_failed for one in watched), name)
        _BEHIND.set(max((one["lag"] or 0 for one in behind.values()), default=0), name)
