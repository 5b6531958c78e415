"""Finds events again that reorgs moved to another block, or brought back, while nobody watched."""

from __future__ import annotations

from collections.abc import Sequence

from dustrun.chain.watching.reader import BlockReader, ChainMoved
from dustrun.core.triggers.chain.watch import ChainEvent, Watch
from dustrun.storage.triggers.chain_events import ChainEventRow
from dustrun.trigger_host.chain.blocks import Blocks


async def find_moved(
    reader: BlockReader, blocks: Blocks, watch: Watch, gone: Sequence[ChainEventRow], last: int
) -> dict[str, ChainEvent]:
    """Of events whose blocks were removed, those that are in another block up to the last one, by key. The block that a
    receipt names is only where to look: what is in the canonical block of that height counts."""
    found: dict[str, ChainEvent] = {}
    keys = {row.key for row in gone}
    numbers = sorted(number for number in await _heights(reader, gone) if number <= last)
    for block in await reader.blocks(numbers):
        if block is None:
            raise ChainMoved
        (events,) = await blocks.events(block.header, [watch])
        found |= {event.key: event for event in events if event.key in keys}
    return found


async def _heights(reader: BlockReader, gone: Sequence[ChainEventRow]) -> set[int]:
    """Where these events may be: of a transaction wherever it is now, of a block where it was."""
    transactions = {row.key.split(":")[1] for row in gone if not _is_of_block(row)}
    return await reader.heights(sorted(transactions)) | {row.block_number for row in gone if _is_of_block(row)}


def _is_of_block(row: ChainEventRow) -> bool:
    return row.key.split(":")[1] == "block"
