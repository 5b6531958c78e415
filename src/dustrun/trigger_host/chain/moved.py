"""Finds events again that reorgs moved to another block, or brought back, while nobody watched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dustrun.chain.watching import BlockReader, ChainMoved
from dustrun.core.triggers.chain.identity import subject_of
from dustrun.core.triggers.chain.watch import ChainEvent
from dustrun.storage.triggers.chain_events import ChainEventRow
from dustrun.trigger_host.chain.watched import Watched

if TYPE_CHECKING:
    from dustrun.trigger_host.chain.scanner import Parts


async def find_moved(parts: Parts, one: Watched, gone: Sequence[ChainEventRow], last: int) -> dict[str, ChainEvent]:
    """Of a subscription's events whose blocks were removed, those that are in another block up to the last one, by key.
    The block that a receipt names is only where to look: what is in the canonical block of that height counts."""
    found: dict[str, ChainEvent] = {}
    keys = {row.key for row in gone}
    numbers = sorted(number for number in await _heights(parts.reader, gone) if number <= last)
    for block in await parts.reader.blocks(numbers):
        if block is None:
            raise ChainMoved
        events = await parts.blocks.events(block.header, one.watch, parts.headers.depth_of(block.header))
        named = await parts.intake.identify(one.sub, events)
        found |= {event.key: event for event in named if event.key in keys}
    return found


async def _heights(reader: BlockReader, gone: Sequence[ChainEventRow]) -> set[int]:
    """Where these events may be: of a transaction wherever it is now, of a block where it was."""
    transactions = {row.key.split(":")[1] for row in gone if not _is_of_block(row)}
    return await reader.heights(sorted(transactions)) | {row.block_number for row in gone if _is_of_block(row)}


def _is_of_block(row: ChainEventRow) -> bool:
    return subject_of(row.key) != row.key.split(":")[1]
