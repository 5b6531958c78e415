"""Keeps the stored headers of one chain equal to what the chain says."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from dustrun.chain.watching import BlockReader, ChainMoved, SeenBlock
from dustrun.core.triggers.chain.headers import KEPT, Header, HeaderChain, linked
from dustrun.services.triggers.chain_store import ChainStore, HeaderChange

_PER_READ: Final = 64
_FIRST_READ: Final = 4
"""Stored headers that are compared at first: most reorgs are not deeper, and each exchange takes its time."""
_MOST_AHEAD: Final = 8
_NEAR_LOOKS: Final = 16
"""For so many looks after one that needed more than the head, more is read together with the head."""
_BEHIND_START: Final = 2 * _PER_READ
_PRUNE_EVERY: Final = 32


class HeadWentBack(Exception):
    """The chain is shorter than what was seen of it: the endpoint lags, or lost blocks."""

    def __init__(self, seen: int, head: int) -> None:
        super().__init__()
        self.seen = seen
        self.head = head


class Headers:
    """The headers of one chain. `follow` takes a new head; everything seen is stored before it is used."""

    def __init__(self, chain_id: int, reader: BlockReader, store: ChainStore) -> None:
        self._chain_id = chain_id
        self._reader = reader
        self._store = store
        self._unpruned = 0
        self._back = self._ahead = self._near_looks = 0
        self._changing: asyncio.Future[None] | None = None
        self.chain = HeaderChain()
        self.lowest_needed = 0
        """No header from this height on is forgotten."""

    def depth_of(self, header: Header) -> int:
        """How many blocks are on top of one, as far as they were seen."""
        newest = self.chain.newest
        return max(0, newest.number - header.number) if newest is not None else 0

    async def load(self) -> None:
        """Reads what is stored."""
        self.chain = await self._store.load_headers(self._chain_id)

    def near(self) -> list[int]:
        """The heights to read together with the next head: those that the last looks had to read after it. On a quick
        chain or among reorgs, an exchange for these alone would find another chain already."""
        newest = self.chain.newest
        if newest is None or not self._near_looks:
            return []
        return list(range(max(0, newest.number - self._back + 1), newest.number + self._ahead + 1))

    def _expect(self, back: int, ahead: int) -> None:
        """Notes how many stored headers a reorg removed, and how many blocks came at once."""
        if back or ahead > 1:
            self._near_looks = _NEAR_LOOKS
            self._back = max(self._back, _FIRST_READ if back else 0)
            self._ahead = max(self._ahead, min(ahead, _MOST_AHEAD))
        elif self._near_looks:
            self._near_looks -= 1
            if not self._near_looks:
                self._back = self._ahead = 0

    def changing(self) -> asyncio.Future[None]:
        """Done as soon as the stored headers are others."""
        if self._changing is None or self._changing.done():
            self._changing = asyncio.get_running_loop().create_future()
        return self._changing

    async def follow(self, head: SeenBlock, near: Sequence[SeenBlock] = ()) -> None:
        """Takes what follows up to this head, and takes off what a reorg removed. `near`: what was read together with
        it. Raises `ChainMoved` if the chain changes meanwhile, `HeadWentBack` if it is shorter than what was seen."""
        newest = self.chain.newest
        if newest is None:
            await self._extend(await self._jump(head.header), head.header, {})
            return
        if self._is_behind(head.header, newest):
            return
        seen = {one.header.number: one.header for one in near if one.header.number < head.header.number}
        base = await self._common(newest, head.header, seen)
        self._expect(newest.number - base.number if base is not None else 0, head.header.number - newest.number)
        if base is None:  # deeper than the stored headers: whoever needs what is gone will find out
            await self._reader.chain.verify(afresh=True)  # or it is another chain
            await self.forget()
            base = await self._jump(head.header)
        if head.header.number > base.number + KEPT:
            await self._save(base.number, [])
            base = await self._jump(head.header)
        await self._extend(base, head.header, seen)

    def _is_behind(self, head: Header, newest: Header) -> bool:
        """Whether the head is known already. Raises `HeadWentBack` if it is an older block of the same chain: endpoints
        lag, for a while. One that is older than the stored headers is taken for such a block, too."""
        if head.number >= newest.number or self.chain.hash_at(head.number) not in (None, head.hash):
            return head.hash == newest.hash
        raise HeadWentBack(newest.number, head.number)

    async def _common(self, newest: Header, head: Header, seen: dict[int, Header]) -> Header | None:
        """The newest stored header that is still canonical; None if there is none.
        `seen` gets what was read; with the first ones, also those that follow up to the head."""
        if head.parent == newest.hash:
            return newest
        following = seen.get(newest.number + 1)
        if following is not None and following.parent == newest.hash:
            return newest
        base = self._newest_of(seen.values())
        if base is not None:
            return base
        numbers = self.chain.numbers_back_from(min(newest.number, head.number))
        size, above = _FIRST_READ, list(range(newest.number + 1, head.number))[: _PER_READ - _FIRST_READ]
        while numbers:
            part, numbers = numbers[:size], numbers[size:]
            found = [block.header for block in await self._reader.blocks([*part, *above]) if block is not None]
            seen |= {header.number: header for header in found}
            base = self._newest_of(found)
            if base is not None:
                return base
            size, above = min(2 * size, _PER_READ), []
        return None

    def _newest_of(self, found: Iterable[Header]) -> Header | None:
        """The newest of these that is stored as canonical."""
        common = [header for header in found if self.chain.is_canonical(header.number, header.hash)]
        return max(common, key=lambda header: header.number, default=None)

    async def forget(self) -> None:
        """Takes everything off the canonical chain."""
        await self._save(-1, [])

    async def _jump(self, head: Header) -> Header:
        """Begins a new stretch of headers near the head; what lies between is scanned by whoever needs it."""
        (start,) = await self._reader.blocks([max(0, head.number - _BEHIND_START)])
        if start is None:
            raise ChainMoved
        await self._save(None, [start.header])
        return start.header

    async def _extend(self, base: Header, head: Header, seen: Mapping[int, Header]) -> None:
        """Stores what follows a header. What was stored above it is taken off together with that: whoever scans below
        finds no chain without a head meanwhile."""
        while base.number < head.number:
            last = min(base.number + _PER_READ, head.number)
            numbers = list(range(base.number + 1, last + 1))
            if last == head.number:
                numbers.pop()
            blocks = await self._reader.blocks([number for number in numbers if number not in seen])
            known = {**seen, **{block.header.number: block.header for block in blocks if block is not None}}
            found = [known[number] for number in numbers if number in known]
            if last == head.number:
                found.append(head)
            good = linked(base, found)
            newest = self.chain.newest
            is_left = newest is not None and newest.number > base.number
            await self._save(base.number if is_left else None, found[:good])
            if good < last - base.number:
                raise ChainMoved
            base = found[-1]

    async def _save(self, above: int | None, added: list[Header]) -> None:
        self._unpruned += len(added)
        below = None
        if self._unpruned >= _PRUNE_EVERY and added:
            self._unpruned = 0
            below = min(added[-1].number, self.lowest_needed) - KEPT
        change = HeaderChange(above, added, below)
        if not await self._store.save_headers(self._chain_id, self.chain.newest, change):
            await self.load()
            self._tell()
            raise ChainMoved
        if above is not None:
            self.chain.cut(above)
        self.chain.add(added)
        if below is not None:
            self.chain.prune(below)
        self._tell()

    def _tell(self) -> None:
        if self._changing is not None and not self._changing.done():
            self._changing.set_result(None)
