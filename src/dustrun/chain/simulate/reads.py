"""Cached reads of a simulated chain: each read is made once per state. After a transaction, recent plain reads are
prefetched for the new state in one request, since actions mostly repeat earlier reads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from dustrun.chain.simulate.fork import Fork
from dustrun.chain.simulate.prober import Ask
from dustrun.chain.simulate.result import Survey, Wanted
from dustrun.chain.simulate.strategy import Simulator
from dustrun.chain.simulate.touched import Holding
from dustrun.core.values.addresses import keccak256
from dustrun.errors import DustrunError
from dustrun.sdk.chain import CallResult, ChainCall

MAX_CALLS: Final = 20  # they share the gas of a block
_MAX_OTHERS: Final = 8


def _selectors(*signatures: str) -> frozenset[bytes]:
    return frozenset(keccak256(signature.encode())[:4] for signature in signatures)


_OF_A_WORD: Final = _selectors(
    *("decimals()", "totalSupply()", "balanceOf(address)", "allowance(address,address)", "ownerOf(uint256)"),
    "balanceOf(address,uint256)",
)
_VIEWS: Final = _OF_A_WORD | _selectors(
    *("symbol()", "name()", "latestRoundData()", "getReserves()", "slot0()"),
    *("getAmountsOut(uint256,address[])", "getAmountsIn(uint256,address[])"),
)


@dataclass(frozen=True, slots=True)
class NativeOf:
    """The native balance of an address."""

    address: str


@dataclass(frozen=True, slots=True)
class CodeOf:
    """The code of an address."""

    address: str


Key = ChainCall | NativeOf | CodeOf


@dataclass(frozen=True, slots=True)
class Prefetch:
    """What to prefetch for a new state: the most recent reads, newest first. `words` are calls that return one word;
    they share one call with the native balances.
    """

    calls: Sequence[ChainCall] = ()
    words: Sequence[ChainCall] = ()
    natives: Sequence[NativeOf] = ()
    codes: Sequence[CodeOf] = ()

    @classmethod
    def of(cls, asked: Iterable[Key], known: Mapping[Key, Any]) -> Prefetch:
        """From keys in the order of their last use, and what was answered then."""
        newest = list(asked)[::-1]
        calls = [key for key in newest if isinstance(key, ChainCall) and _only_looks(key)][:MAX_CALLS]
        return cls(
            calls,
            [call for call in calls if call.data[:4] in _OF_A_WORD and _is_word(known.get(call))],
            [key for key in newest if isinstance(key, NativeOf)][:_MAX_OTHERS],
            [key for key in newest if isinstance(key, CodeOf)][:_MAX_OTHERS],
        )

    @property
    def wanted(self) -> Wanted:
        """As a simulator takes it."""
        asks = [Holding(None, key.address).ask() for key in self.natives]
        asks += [Ask(call.to, call.data) for call in self.words]
        return Wanted(self._others, asks, [key.address for key in self.codes])

    @property
    def _others(self) -> list[ChainCall]:
        words = set(self.words)
        return [call for call in self.calls if call not in words]

    def answers(self, survey: Survey) -> dict[Key, Any]:
        """The answers; failed ones are omitted and asked again on demand, which reports the reason."""
        count = len(self.natives)
        words = zip(self.words, survey.words[count:], strict=True)
        return {
            **{call: result for call, result in zip(self._others, survey.results, strict=True) if result.is_success},
            **{call: CallResult(True, word.to_bytes(32)) for call, word in words if word is not None},
            **{key: word for key, word in zip(self.natives, survey.words[:count], strict=True) if word is not None},
            **{key: code for key, code in zip(self.codes, survey.codes, strict=True) if code is not None},
        }


@dataclass(slots=True)
class _Round:
    """What is asked of one state in one moment, by however many; `known` takes the answers."""

    known: dict[Key, Any]
    keys: dict[Key, None] = field(default_factory=dict)
    askers: int = 0
    task: asyncio.Task[None] | None = None


class Reads:
    """The known reads of the newest state. A state is identified by `Fork.changes`."""

    def __init__(self) -> None:
        self._moment = -1
        self._known: dict[Key, Any] = {}  # a new one for each state, so that late answers end in an old one
        self._asked: dict[Key, None] = {}  # in the order of their last use
        self._is_used = False
        self._ahead: asyncio.Task[None] | None = None
        self._expected: frozenset[Key] = frozenset()
        self._round: _Round | None = None

    async def calls(self, fork: Fork, simulator: Simulator, calls: Sequence[ChainCall]) -> list[CallResult]:
        """What calls come to."""
        self.use(fork, simulator)
        found = await self._find(fork, simulator, calls)
        return [found[call] for call in calls]

    async def native(self, fork: Fork, simulator: Simulator, address: str) -> int:
        """A native balance as the node has it."""
        self._turn(fork, simulator)
        key = NativeOf(address)
        return int((await self._find(fork, simulator, [key]))[key])

    async def code(self, fork: Fork, simulator: Simulator, address: str) -> bytes:
        """The code of an address."""
        self.use(fork, simulator)
        key = CodeOf(address)
        return bytes((await self._find(fork, simulator, [key]))[key])

    def use(self, fork: Fork, simulator: Simulator) -> None:
        """Something was asked on the newest state by other means."""
        self._turn(fork, simulator)
        self._is_used = True

    def tell_native(self, fork: Fork, simulator: Simulator, address: str, units: int) -> None:
        """A balance that was read on the way."""
        self._turn(fork, simulator)
        self._known[NativeOf(address)] = units

    def ahead(self, places: Iterable[str]) -> Prefetch:
        """What is to be read on the state that a transaction leaves, with the codes of `places`, which reports and the
        next action ask for; nothing when nobody has read before it."""
        if not self._is_used:
            return Prefetch()
        codes = dict.fromkeys(CodeOf(address) for address in places)
        return Prefetch.of([*(key for key in self._asked if key not in codes), *codes], self._known)

    def turn(self, fork: Fork, simulator: Simulator, answers: Mapping[Key, Any] | None) -> None:
        """A transaction was carried out: whoever has read before it will read after it. `answers` are those that came
        along with it."""
        if self._is_used:
            self._turn(fork, simulator, answers)

    def close(self) -> None:
        """Nobody waits for answers any more."""
        if self._ahead is not None:
            self._ahead.cancel()

    async def _find(self, fork: Fork, simulator: Simulator, keys: Sequence[Key]) -> dict[Key, Any]:
        known, ahead = self._known, self._ahead
        for key in keys:
            self._asked.pop(key, None)
            self._asked[key] = None
        if ahead is not None and any(key not in known and key in self._expected for key in keys):
            await asyncio.wait([ahead])
        missing = [key for key in dict.fromkeys(keys) if key not in known]
        if missing:
            await self._ask(fork, simulator, known, missing)
        return {key: known[key] for key in keys}

    async def _ask(self, fork: Fork, simulator: Simulator, known: dict[Key, Any], missing: Sequence[Key]) -> None:
        """Together with all that others ask in the same moment, where one cannot change what another reads."""
        if not all(_only_looks(key) for key in missing if isinstance(key, ChainCall)):
            known.update(await _answers(fork, simulator, missing))
            return
        round = self._round
        if round is None or round.known is not known:
            round = self._round = _Round(known)
            round.task = asyncio.create_task(self._ask_round(fork, simulator, round))
        round.keys.update(dict.fromkeys(missing))
        round.askers += 1
        assert round.task is not None
        try:
            await asyncio.shield(round.task)
            again = [key for key in missing if isinstance(known[key], CallResult) and not known[key].is_success]
        except DustrunError:
            if round.askers == 1:
                raise
            again = list(missing)
        if again and round.askers > 1:  # what failed may be another's fault: they share the gas of a block
            known.update(await _answers(fork, simulator, again))

    async def _ask_round(self, fork: Fork, simulator: Simulator, round: _Round) -> None:
        """Begins when the loop has turned twice: all who ask in this moment, and those whom they begin, have asked."""
        await asyncio.sleep(0)
        if self._round is round:
            self._round = None
        round.known.update(await _answers(fork, simulator, list(round.keys)))

    def _turn(self, fork: Fork, simulator: Simulator, answers: Mapping[Key, Any] | None = None) -> None:
        """Forgets what was true of another state, and asks anew for it unless it is known."""
        if self._moment == fork.changes:
            return
        ahead = Prefetch.of(self._asked, self._known)
        self._moment, self._known, self._is_used = fork.changes, dict(answers or {}), False
        self.close()
        self._ahead, self._expected = None, frozenset()
        self._asked = dict.fromkeys([*ahead.codes[::-1], *ahead.natives[::-1], *ahead.calls[::-1]])
        if ahead.wanted and answers is None:
            self._expected = frozenset(self._asked)
            self._ahead = asyncio.create_task(_ask_ahead(fork, simulator, self._known, ahead))


def _is_word(answer: Any) -> bool:
    """Whether a call was answered as its function declares; an address without code answers nothing, for instance."""
    return isinstance(answer, CallResult) and answer.is_success and len(answer.data) == 32


def _only_looks(call: ChainCall) -> bool:
    """Whether it can stand in one block with others: what one call changes, the next would see. So nothing that is
    tried on behalf of a wallet, and of the rest what is known to change nothing."""
    return call.sender is None and not call.value_units and call.data[:4] in _VIEWS


async def _answers(fork: Fork, simulator: Simulator, keys: Sequence[Key]) -> dict[Key, Any]:
    """What is asked of the newest state: by one request where there is a newer state than the pinned block's."""
    calls = [key for key in keys if isinstance(key, ChainCall)]
    natives = [key for key in keys if isinstance(key, NativeOf)]
    codes = [key for key in keys if isinstance(key, CodeOf)]
    is_mixed = bool(calls) + bool(natives) + bool(codes) > 1
    if is_mixed and len(calls) <= MAX_CALLS and (fork.steps or fork.waited_s):
        asks = [Holding(None, key.address).ask() for key in natives]
        found = await simulator.survey(fork, Wanted(calls, asks, [key.address for key in codes]))
        read = [
            await simulator.code(fork, key.address) if code is None else code
            for key, code in zip(codes, found.codes, strict=True)
        ]
        return dict(zip([*calls, *natives, *codes], [*found.results, *map(_units, found.words), *read], strict=True))
    results, words, *read = await asyncio.gather(
        simulator.read(fork, calls) if calls else _nothing(),
        simulator.probe(fork, [Holding(None, key.address).ask() for key in natives]) if natives else _nothing(),
        *(simulator.code(fork, key.address) for key in codes),
    )
    return dict(zip([*calls, *natives, *codes], [*results, *map(_units, words), *read], strict=True))


async def _nothing() -> list[Any]:
    return []


def _units(word: int | None) -> int:
    return word or 0


async def _ask_ahead(fork: Fork, simulator: Simulator, known: dict[Key, Any], ahead: Prefetch) -> None:
    """All in one request. What fails here is asked again by whoever wants it, who then hears why."""
    moment = fork.changes
    try:
        seen = await simulator.survey(fork, ahead.wanted)
    except DustrunError:
        return
    if fork.changes != moment:
        return
    for key, answer in ahead.answers(seen).items():
        known.setdefault(key, answer)
