"""Cached reads of a simulated chain: each read is made once per state. After a transaction, recent plain reads are
prefetched for the new state in one request, since actions mostly repeat earlier reads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any, Final

from dustrun.chain.simulate.creation import Ask
from dustrun.chain.simulate.fork import Fork
from dustrun.chain.simulate.result import BatchResult, ReadBatch
from dustrun.chain.simulate.strategy import Simulator
from dustrun.chain.simulate.touched import TouchedBalance
from dustrun.core.values.addresses import keccak256
from dustrun.errors import DustrunError
from dustrun.records import dataclass
from dustrun.sdk.chain import CallResult, ChainCall

MAX_CALLS: Final = 20  # calls of one request share the block gas limit
_MAX_ADDRESSES: Final = 8


def _selectors(*signatures: str) -> frozenset[bytes]:
    return frozenset(keccak256(signature.encode())[:4] for signature in signatures)


_ONE_WORD: Final = _selectors(
    *("decimals()", "totalSupply()", "balanceOf(address)", "allowance(address,address)", "ownerOf(uint256)"),
    "balanceOf(address,uint256)",
)
_VIEWS: Final = _ONE_WORD | _selectors(
    *("symbol()", "name()", "latestRoundData()", "getReserves()", "slot0()"),
    *("getAmountsOut(uint256,address[])", "getAmountsIn(uint256,address[])"),
)


@dataclass(frozen=True, slots=True)
class NativeOf:
    """Cache key of an address's native balance."""

    address: str


@dataclass(frozen=True, slots=True)
class CodeOf:
    """Cache key of an address's code."""

    address: str


Key = ChainCall | NativeOf | CodeOf


@dataclass(frozen=True, slots=True)
class Prefetch:
    """Reads to prefetch for a new state, newest first. `words` are calls that return one 32-byte word; they are read
    together with the native balances by one call of the prober.
    """

    calls: Sequence[ChainCall] = ()
    words: Sequence[ChainCall] = ()
    natives: Sequence[NativeOf] = ()
    codes: Sequence[CodeOf] = ()

    @classmethod
    def of(cls, asked: Iterable[Key], known: Mapping[Key, Any]) -> Prefetch:
        """Selects from `asked`, keys in order of last use; `known` are their previous answers."""
        newest = list(asked)[::-1]
        calls = [key for key in newest if isinstance(key, ChainCall) and _is_plain_read(key)][:MAX_CALLS]
        return cls(
            calls,
            [call for call in calls if call.data[:4] in _ONE_WORD and _is_word(known.get(call))],
            [key for key in newest if isinstance(key, NativeOf)][:_MAX_ADDRESSES],
            [key for key in newest if isinstance(key, CodeOf)][:_MAX_ADDRESSES],
        )

    @property
    def batch(self) -> ReadBatch:
        """The reads as one request of a simulator."""
        asks = [TouchedBalance(None, key.address).ask() for key in self.natives]
        asks += [Ask(call.to, call.data) for call in self.words]
        return ReadBatch(self._others, asks, [key.address for key in self.codes])

    @property
    def _others(self) -> list[ChainCall]:
        words = set(self.words)
        return [call for call in self.calls if call not in words]

    def answers(self, batch_result: BatchResult) -> dict[Key, Any]:
        """The answers by key. Failed reads are left out: they are repeated on demand, which reports the error."""
        count = len(self.natives)
        words = zip(self.words, batch_result.words[count:], strict=True)
        return {
            **{
                call: result
                for call, result in zip(self._others, batch_result.results, strict=True)
                if result.is_success
            },
            **{call: CallResult(True, word.to_bytes(32)) for call, word in words if word is not None},
            **{
                key: word
                for key, word in zip(self.natives, batch_result.words[:count], strict=True)
                if word is not None
            },
            **{key: code for key, code in zip(self.codes, batch_result.codes, strict=True) if code is not None},
        }


@dataclass(slots=True)
class _Round:
    """Concurrent reads of one state that are sent as one request; the answers are stored in `known`."""

    known: dict[Key, Any]
    keys: dict[Key, None] = field(default_factory=dict)
    waiters: int = 0
    task: asyncio.Task[None] | None = None


class Reads:
    """Cache of reads of the newest state; `Fork.changes` identifies a state."""

    def __init__(self) -> None:
        self._version = -1
        self._known: dict[Key, Any] = {}  # a new dict for each state, so that late answers go to an old one
        self._recent: dict[Key, None] = {}  # in order of last use
        self._was_read = False
        self._prefetch_task: asyncio.Task[None] | None = None
        self._expected: frozenset[Key] = frozenset()
        self._round: _Round | None = None

    async def calls(self, fork: Fork, simulator: Simulator, calls: Sequence[ChainCall]) -> list[CallResult]:
        """Results in the order of `calls`; a revert fails only its own call."""
        self.use(fork, simulator)
        found = await self._find(fork, simulator, calls)
        return [found[call] for call in calls]

    async def native(self, fork: Fork, simulator: Simulator, address: str) -> int:
        """Native balance in base units as the node reports it."""
        self._switch_state(fork, simulator)
        key = NativeOf(address)
        return int((await self._find(fork, simulator, [key]))[key])

    async def code(self, fork: Fork, simulator: Simulator, address: str) -> bytes:
        """The code of an address; empty for a plain account."""
        self.use(fork, simulator)
        key = CodeOf(address)
        return bytes((await self._find(fork, simulator, [key]))[key])

    def use(self, fork: Fork, simulator: Simulator) -> None:
        """Records that the newest state was read by another request."""
        self._switch_state(fork, simulator)
        self._was_read = True

    def note_native(self, fork: Fork, simulator: Simulator, address: str, units: int) -> None:
        """Caches a native balance that another request returned."""
        self._switch_state(fork, simulator)
        self._known[NativeOf(address)] = units

    def plan_prefetch(self, places: Iterable[str]) -> Prefetch:
        """Reads to prefetch with the next transaction, including the code of `places`, which the report and the next
        action need. Empty if the current state was never read."""
        if not self._was_read:
            return Prefetch()
        codes = dict.fromkeys(CodeOf(address) for address in places)
        return Prefetch.of([*(key for key in self._recent if key not in codes), *codes], self._known)

    def advance(self, fork: Fork, simulator: Simulator, answers: Mapping[Key, Any] | None) -> None:
        """Switches to the state after a transaction. `answers` are reads that the simulator returned with it. Does
        nothing if the previous state was never read, since the next one is then unlikely to be."""
        if self._was_read:
            self._switch_state(fork, simulator, answers)

    def close(self) -> None:
        """Cancels a running prefetch."""
        if self._prefetch_task is not None:
            self._prefetch_task.cancel()

    async def _find(self, fork: Fork, simulator: Simulator, keys: Sequence[Key]) -> dict[Key, Any]:
        known, prefetch = self._known, self._prefetch_task
        for key in keys:
            self._recent.pop(key, None)
            self._recent[key] = None
        if prefetch is not None and any(key not in known and key in self._expected for key in keys):
            await asyncio.wait([prefetch])
        missing = [key for key in dict.fromkeys(keys) if key not in known]
        if missing:
            await self._ask(fork, simulator, known, missing)
        return {key: known[key] for key in keys}

    async def _ask(self, fork: Fork, simulator: Simulator, known: dict[Key, Any], missing: Sequence[Key]) -> None:
        """Sends the reads together with concurrent ones, unless a call could change what another reads."""
        if not all(_is_plain_read(key) for key in missing if isinstance(key, ChainCall)):
            known.update(await _answers(fork, simulator, missing))
            return
        round = self._round
        if round is None or round.known is not known:
            round = self._round = _Round(known)
            round.task = asyncio.create_task(self._ask_round(fork, simulator, round))
        round.keys.update(dict.fromkeys(missing))
        round.waiters += 1
        assert round.task is not None
        try:
            await asyncio.shield(round.task)
            again = [key for key in missing if isinstance(known[key], CallResult) and not known[key].is_success]
        except DustrunError:
            if round.waiters == 1:
                raise
            again = list(missing)
        if again and round.waiters > 1:  # another call may have used up the gas, which the calls of a request share
            known.update(await _answers(fork, simulator, again))

    async def _ask_round(self, fork: Fork, simulator: Simulator, round: _Round) -> None:
        """Waits one more loop tick, so that reads started by tasks of this tick are included."""
        await asyncio.sleep(0)
        if self._round is round:
            self._round = None
        round.known.update(await _answers(fork, simulator, list(round.keys)))

    def _switch_state(self, fork: Fork, simulator: Simulator, answers: Mapping[Key, Any] | None = None) -> None:
        """Drops the reads of an older state; prefetches them again unless `answers` are given."""
        if self._version == fork.changes:
            return
        prefetch = Prefetch.of(self._recent, self._known)
        self._version, self._known, self._was_read = fork.changes, dict(answers or {}), False
        self.close()
        self._prefetch_task, self._expected = None, frozenset()
        self._recent = dict.fromkeys([*prefetch.codes[::-1], *prefetch.natives[::-1], *prefetch.calls[::-1]])
        if prefetch.batch and answers is None:
            self._expected = frozenset(self._recent)
            self._prefetch_task = asyncio.create_task(_run_prefetch(fork, simulator, self._known, prefetch))


def _is_word(answer: Any) -> bool:
    """Whether a call returned exactly one word; an address without code, for example, returns nothing."""
    return isinstance(answer, CallResult) and answer.is_success and len(answer.data) == 32


def _is_plain_read(call: ChainCall) -> bool:
    """Whether a call can share a simulated block with others, which would see its state changes: only calls of known
    view functions without sender and value."""
    return call.sender is None and not call.value_units and call.data[:4] in _VIEWS


async def _answers(fork: Fork, simulator: Simulator, keys: Sequence[Key]) -> dict[Key, Any]:
    """Reads keys at the newest state, in one request unless that is still the pinned block."""
    calls = [key for key in keys if isinstance(key, ChainCall)]
    natives = [key for key in keys if isinstance(key, NativeOf)]
    codes = [key for key in keys if isinstance(key, CodeOf)]
    is_mixed = bool(calls) + bool(natives) + bool(codes) > 1
    if is_mixed and len(calls) <= MAX_CALLS and (fork.steps or fork.waited_s):
        asks = [TouchedBalance(None, key.address).ask() for key in natives]
        found = await simulator.read_batch(fork, ReadBatch(calls, asks, [key.address for key in codes]))
        read = [
            await simulator.code(fork, key.address) if code is None else code
            for key, code in zip(codes, found.codes, strict=True)
        ]
        return dict(zip([*calls, *natives, *codes], [*found.results, *map(_units, found.words), *read], strict=True))
    results, words, *read = await asyncio.gather(
        simulator.read(fork, calls) if calls else _nothing(),
        simulator.probe(fork, [TouchedBalance(None, key.address).ask() for key in natives]) if natives else _nothing(),
        *(simulator.code(fork, key.address) for key in codes),
    )
    return dict(zip([*calls, *natives, *codes], [*results, *map(_units, words), *read], strict=True))


async def _nothing() -> list[Any]:
    return []


def _units(word: int | None) -> int:
    return word or 0


async def _run_prefetch(fork: Fork, simulator: Simulator, known: dict[Key, Any], prefetch: Prefetch) -> None:
    """Prefetches in one request. Failures are ignored: the read is repeated on demand, which reports the error."""
    version = fork.changes
    try:
        seen = await simulator.read_batch(fork, prefetch.batch)
    except DustrunError:
        return
    if fork.changes != version:
        return
    for key, answer in prefetch.answers(seen).items():
        known.setdefault(key, answer)
