"""Finds the past events of chain triggers, for back-tests: the same matching as a watcher's, read by ranges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from dustrun.chain.chains import Chains
from dustrun.chain.simulate.pinning import block_at
from dustrun.chain.watching import BlockReader, ChainMoved, SeenBlock, TooMuch
from dustrun.core.triggers.chain.watch import ChainEvent, ChainWatch
from dustrun.errors import Invalid, Problem, Temporary
from dustrun.sdk.trigger import Trigger, TriggerContext
from dustrun.services.triggers.backtest.past_events import PastEvent, PastTrigger, Period
from dustrun.services.triggers.trying import RecentEvent
from dustrun.trigger_host.chain.blocks import Blocks, matching, placed

_RANGE: Final = 2_000
_MOST_BLOCKS: Final = 200_000
"""Blocks whose logs are searched by ranges."""
_RECENT: Final = 2_000
_RECENT_SINGLE: Final = 64
"""Newest blocks in which a test looks for an event."""
_FIRST_LOOK: Final = 8
_MOST_RECENT: Final = 10_000
_MOST_SINGLE: Final = 2_000
"""Blocks that have to be read one by one: for moves of native coin, and for every Nth block."""


class PastChainEvents:
    """The events that a chain trigger would have had."""

    def __init__(self, chains: Chains) -> None:
        self._chains = chains

    async def find(self, asked: PastTrigger, period: Period, count: int) -> Sequence[PastEvent]:
        """Reads them from the chain. Raises `Invalid` for a period that is too long, `Temporary` if the chain changes
        meanwhile."""
        assert asked.trigger.watch is not None, "a chain trigger has one"
        live = self._chains.get(asked.trigger.watch(asked.config).chain_id)
        watch = asked.trigger.watch(asked.config)
        confirmations = watch.confirmations if isinstance(watch.confirmations, int) else live.network.confirmations
        reader = BlockReader(live)
        head = (await reader.head()).header.number
        first, last = await self._blocks(reader, period, head)
        most = _MOST_BLOCKS if watch.query is not None else _MOST_SINGLE
        if last - first + 1 > most:
            message = f"{last - first + 1} blocks are too many for this trigger: at most {most}"
            raise Invalid(f"The period is too long: {message}.", details=[Problem("fromBlock", message)])
        try:
            events = await _events(reader, watch, (first, last), head, count)
        except ChainMoved:
            raise Temporary("The chain changed while it was read.", retry_after_s=2) from None
        return [_past(watch, event, min(head, event.block.number + confirmations)) for event in events]

    async def recent(self, _: TriggerContext, trigger: Trigger, config: Any) -> RecentEvent:
        """The newest event of the newest blocks; what is not deep enough yet counts too."""
        assert trigger.watch is not None, "a chain trigger has one"
        watch = trigger.watch(config)
        reader = BlockReader(self._chains.get(watch.chain_id))
        head = (await reader.head()).header.number
        first = max(0, head - (_RECENT if watch.query is not None else _RECENT_SINGLE) + 1)
        last, size = head, _FIRST_LOOK
        while last >= first:  # backwards, in ever larger steps: what happens often is found without reading much
            start = max(first, last - size + 1)
            try:
                found = await _events(reader, watch, (start, last), head, _MOST_RECENT)
            except ChainMoved:
                raise Temporary("The chain changed while it was read.", retry_after_s=2) from None
            if found:
                return RecentEvent(
                    dict(found[-1].payload), f"From block {found[-1].block.number} of chain {watch.chain_id}."
                )
            last, size = start - 1, size * 4
        return RecentEvent(None, f"There is none in blocks {first} to {head} of chain {watch.chain_id}.")

    async def _blocks(self, reader: BlockReader, period: Period, head: int) -> tuple[int, int]:
        if period.from_block is not None:
            first, last = period.from_block, head if period.to_block is None else min(period.to_block, head)
        else:
            assert period.from_ms is not None
            assert period.to_ms is not None
            before = await block_at(reader.chain, period.from_ms - 1)
            first, last = before.number + 1, (await block_at(reader.chain, period.to_ms)).number
        if first > head:
            message = f"the newest block is {head}"
            raise Invalid(f"The period is in the future: {message}.", details=[Problem("fromBlock", message)])
        return first, last


async def _events(
    reader: BlockReader, watch: ChainWatch, between: tuple[int, int], head: int, count: int
) -> list[ChainEvent]:
    found: list[ChainEvent] = []
    (first, last), size = between, _RANGE if watch.query is not None else 64
    while first <= last and len(found) < count:
        end = min(last, first + size - 1)
        try:
            found += await (_logs if watch.query is not None else _single)(reader, watch, first, end, head)
        except TooMuch:
            if end == first:
                raise ChainMoved from None
            size = max(1, size // 2)
            continue
        first = end + 1
    return [event for event in found if event.failure is None][:count]


async def _logs(reader: BlockReader, watch: ChainWatch, first: int, last: int, head: int) -> list[ChainEvent]:
    assert watch.query is not None
    _, logs = await reader.logs_between(first, last, watch.query, [watch.query], head, is_sampled=True)
    matched = await matching(watch, logs)
    numbers = sorted({one.log.block_number for one in matched})
    blocks = {one.header.number: one for one in await _read(reader, numbers)}
    if any(blocks[one.log.block_number].header.hash != one.log.block_hash for one in matched):
        raise ChainMoved
    positions = await reader.first_indexes(one.log for one in matched) if matched else {}
    return await placed(watch, [(blocks[one.log.block_number].facts, one) for one in matched], positions)


async def _single(reader: BlockReader, watch: ChainWatch, first: int, last: int, head: int) -> list[ChainEvent]:
    blocks = Blocks(reader, lambda: [watch])
    blocks.rearm()
    found: list[ChainEvent] = []
    for block in await _read(reader, list(range(first, last + 1))):
        found += await blocks.events(block.header, watch, max(0, head - block.header.number))
    return found


async def _read(reader: BlockReader, numbers: Sequence[int]) -> list[SeenBlock]:
    found: list[SeenBlock] = []
    for start in range(0, len(numbers), 64):
        for block in await reader.blocks(numbers[start : start + 64]):
            if block is None:
                raise ChainMoved
            found.append(block)
    return found


def _past(watch: ChainWatch, event: ChainEvent, met: int) -> PastEvent:
    """`met`: the block at which its run would have started."""
    return PastEvent(event.key, dict(event.payload), event.block.time * 1000, {watch.chain_id: met})
