"""Measures what transactions changed: balances at their parent block and at their own block, approvals after it.

One batch of requests per block, shared by concurrent runs. Nodes cannot read state within a block, so changes by other
transactions of the block are included; `others` reports them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any, Final
from weakref import WeakKeyDictionary

from dustrun.chain import wire
from dustrun.chain.evm import LiveChain
from dustrun.chain.rpc import RpcError, RpcRequest
from dustrun.chain.simulate import creation
from dustrun.chain.simulate.creation import Ask
from dustrun.chain.simulate.touched import Approval, TouchedBalance, TouchedState, changes_of, touched
from dustrun.core.money.intent import Intent, Receipt
from dustrun.core.values.addresses import checksum
from dustrun.errors import DustrunError
from dustrun.records import dataclass

_WITHIN_S: Final = 20.0
_GATHER_S: Final = 0.01
_MOST_ADDRESSES: Final = 100
_PROBER_STATE: Final = {creation.PROBER: {"code": creation.PROBER_CODE}}
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class MinedIntent:
    """An intent with its receipt; `sender` if transactions of several are measured together."""

    intent: Intent
    receipt: Receipt
    sender: str | None = None


@dataclass(frozen=True, slots=True)
class Measure:
    """Balance changes over one transaction's block, fees included, limited to what the transaction may have touched.

    `changes` are `(address, asset, base units)`; `unchanged` are pairs that were read and stayed equal. `others` are
    `(address, asset, hash)`: another transaction of the block may have changed the pair. `left_out` counts balances
    over the read limit. `failed` says why nothing could be measured.
    """

    changes: tuple[tuple[str, str, int], ...] = ()
    unchanged: tuple[tuple[str, str], ...] = ()
    approvals: tuple[Json, ...] = ()
    others: tuple[tuple[str, str, str], ...] = ()
    left_out: int = 0
    failed: str | None = None


@dataclass(slots=True)
class _Block:
    """One block and the balances to read before and after it."""

    number: int
    hash: str
    mined: list[MinedIntent] = field(default_factory=list)
    touched: list[TouchedState] = field(default_factory=list)

    @property
    def holdings(self) -> list[TouchedBalance]:
        """Balances touched by any of its transactions, without duplicates."""
        return list(dict.fromkeys(holding for found in self.touched for holding in found.holdings))

    @property
    def approvals(self) -> list[Approval]:
        """Approvals touched by any of its transactions, without duplicates."""
        return list(dict.fromkeys(approval for found in self.touched for approval in found.approvals))


@dataclass(frozen=True, slots=True)
class _Facts:
    """The block, and the words read before and after it; `left` are approvals after it."""

    block: Json
    before: Mapping[TouchedBalance, int | None]
    after: Mapping[TouchedBalance, int | None]
    left: Mapping[Approval, int | None]
    logs: Sequence[Any]


class _Gathering:
    """Coalesces the reads of several runs for one block: hundreds of payments may share it."""

    def __init__(self, number: int, hash: str) -> None:
        self.task: asyncio.Task[_Facts] | None = None
        self._number = number
        self._hash = hash
        self._holdings: dict[TouchedBalance, None] = {}
        self._approvals: dict[Approval, None] = {}

    def has_room_for(self, block: _Block) -> bool:
        """Whether the reads of another run still fit into the request."""
        others = len(self._holdings) + len(self._approvals)
        return others + len(block.holdings) + len(block.approvals) <= _MOST_ADDRESSES

    def add(self, block: _Block) -> None:
        """Adds the reads of a run."""
        self._holdings.update(dict.fromkeys(block.holdings))
        self._approvals.update(dict.fromkeys(block.approvals))

    async def ask(self, chain: LiveChain, opened: dict[str, _Gathering]) -> _Facts:
        """Waits 10 ms for other runs, then reads. Raises `_Unmeasured` or `Temporary`."""
        await asyncio.sleep(_GATHER_S)
        if opened.get(self._hash) is self:
            del opened[self._hash]
        holdings, approvals = list(self._holdings), list(self._approvals)
        asks = [holding.ask() for holding in holdings]
        before, after = hex(self._number - 1), {"blockHash": self._hash}
        requests = [
            RpcRequest("eth_getBlockByHash", (self._hash, True)),
            RpcRequest("eth_getBlockByNumber", (before, False)),
            _probe(asks, before),
            _probe([*asks, *(approval.ask() for approval in approvals)], after),
            *_logs(self._hash, holdings),
        ]
        its_own, parent, was, now, *logs = await chain.endpoints.batch(requests)
        _check(self._number, self._hash, its_own, parent)
        words_before = _words(was, len(asks), self._number - 1)
        words_after = _words(now, len(asks) + len(approvals), self._number)
        return _Facts(
            its_own,
            dict(zip(holdings, words_before, strict=True)),
            dict(zip(holdings, words_after, strict=False)),
            dict(zip(approvals, words_after[len(asks) :], strict=True)),
            logs,
        )


_OPEN: Final[WeakKeyDictionary[LiveChain, dict[str, _Gathering]]] = WeakKeyDictionary()


class _Unmeasured(Exception):
    """The block cannot be measured; the message says why."""


async def measure(
    chain: LiveChain, sender: str, mined: Sequence[MinedIntent], ours: Collection[str] = ()
) -> list[Measure]:
    """One measure per transaction, in order. A failure of an endpoint is reported in `failed`, not raised. `ours` are
    the hashes of more transactions that are no strangers'."""
    blocks: dict[str, _Block] = {}
    approved: list[str] = []  # approvals are read again after each later transaction
    for one in sorted(mined, key=lambda one: one.receipt.block_number):
        receipt = one.receipt
        block = blocks.setdefault(str(receipt.block_hash), _Block(receipt.block_number, str(receipt.block_hash)))
        emitters = {log.address for log in receipt.logs}  # native coin seldom moves without an event
        found = touched(
            one.intent, one.sender or sender, receipt.logs, emitters, receipt.contract_address, (), approved
        )
        approved += [approval.key() for approval in found.approvals]
        block.mined.append(one)
        block.touched.append(found)
    measured = await asyncio.gather(*(_measure_block(chain, block, ours) for block in blocks.values()))
    by_item = {
        one.intent.item: found
        for block, several in zip(blocks.values(), measured, strict=True)
        for one, found in zip(block.mined, several, strict=True)
    }
    return [by_item[one.intent.item] for one in mined]


async def _measure_block(chain: LiveChain, block: _Block, ours: Collection[str]) -> list[Measure]:
    try:
        async with asyncio.timeout(_WITHIN_S):
            return await _read(chain, block, ours)
    except TimeoutError:
        why = f"no endpoint answered within {_WITHIN_S:.0f} s"
    except _Unmeasured as error:
        why = str(error)
    except DustrunError as error:
        why = error.message
    except (KeyError, TypeError, ValueError, AttributeError):
        why = f"an endpoint returned a malformed answer for block {block.number}"
    return [Measure(failed=why) for _ in block.mined]


async def _read(chain: LiveChain, block: _Block, ours: Collection[str]) -> list[Measure]:
    facts = await _gathered(chain, block)
    holdings, chain_id = block.holdings, chain.network.chain_id
    before, after = [facts.before[one] for one in holdings], [facts.after[one] for one in holdings]
    changed = {
        (change.address, change.asset): change.delta_units
        for change in changes_of(holdings, before, after, chain_id, {})
    }
    own = {str(one.receipt.hash) for one in block.mined} | set(ours)
    others = _others(own, facts.block, facts.logs, changed, chain_id)
    return [_of_one(found, changed, facts.left, others, chain_id) for found in block.touched]


async def _gathered(chain: LiveChain, block: _Block) -> _Facts:
    """The reads of a block, coalesced with those of concurrent runs."""
    opened = _OPEN.setdefault(chain, {})
    gathering = opened.get(block.hash)
    if gathering is None or not gathering.has_room_for(block):
        gathering = opened[block.hash] = _Gathering(block.number, block.hash)
        gathering.task = asyncio.create_task(gathering.ask(chain, opened))
    gathering.add(block)
    assert gathering.task is not None
    return await asyncio.shield(gathering.task)


def _of_one(
    found: TouchedState,
    changed: Mapping[tuple[str, str], int],
    left: Mapping[Approval, int | None],
    others: Mapping[tuple[str, str], str],
    chain_id: int,
) -> Measure:
    """The changes of a block that one transaction may have caused."""
    assets = {
        holding.asset(chain_id) for holding in found.holdings if holding.who is None
    }  # ERC-721 tokens of any owner
    pairs = {(holding.who, holding.asset(chain_id)) for holding in found.holdings if holding.who is not None}
    mine = {pair: units for pair, units in changed.items() if pair in pairs or pair[1] in assets}
    words = [(approval, left[approval]) for approval in found.approvals]
    return Measure(
        changes=tuple((who, asset, units) for (who, asset), units in mine.items()),
        unchanged=tuple(sorted((who, asset) for who, asset in pairs if (who, asset) not in mine)),
        approvals=tuple(approval.public(chain_id, word) for approval, word in words if word is not None),
        others=tuple((*pair, others[pair]) for pair in mine if pair in others),
        left_out=found.left_out,
    )


def _probe(asks: Sequence[Ask], at: Any) -> RpcRequest:
    fields = {
        "from": creation.PROBER_SENDER,
        "to": creation.PROBER,
        "data": wire.hexed(creation.encode(asks)),
        "gas": hex(creation.gas_of(len(asks))),
    }
    return RpcRequest("eth_call", (fields, at, _PROBER_STATE))


def _logs(block_hash: str, holdings: Sequence[TouchedBalance]) -> list[RpcRequest]:
    """Events of the touched tokens that name a touched address in any topic."""
    tokens = sorted({holding.token for holding in holdings if holding.token is not None})[:_MOST_ADDRESSES]
    named = sorted({holding.who for holding in holdings if holding.who is not None})[:_MOST_ADDRESSES]
    if not tokens:
        return []
    words = [wire.hexed(creation.word_of(who)) for who in named]
    wanted = {"blockHash": block_hash, "address": tokens}
    return [RpcRequest("eth_getLogs", ({**wanted, "topics": [None] * place + [words]},)) for place in (1, 2, 3)]


def _check(number: int, hash: str, its_own: Any, parent: Any) -> None:
    for answer in (its_own, parent):
        if isinstance(answer, RpcError):
            raise _Unmeasured(f"the endpoint cannot return block {number}: {answer.message}")
    if not isinstance(its_own, dict) or not isinstance(parent, dict) or its_own.get("parentHash") != parent.get("hash"):
        raise _Unmeasured(f"the endpoint no longer has block {number} ({hash})")


def _words(answer: Any, count: int, number: int) -> list[int | None]:
    if isinstance(answer, RpcError):
        raise _Unmeasured(f"the endpoint cannot read the state of block {number}: {answer.message}")
    data = wire.data(answer)
    if len(data) != 64 * count:
        raise _Unmeasured(f"the endpoint cannot read balances at block {number}: it does not support state overrides")
    return creation.decode(data, count)


def _others(
    ours: Collection[str], its_own: Json, logs: Iterable[Any], changed: Iterable[tuple[str, str]], chain_id: int
) -> dict[tuple[str, str], str]:
    """Pairs that another transaction of the block may have changed, with its hash or `unknown`."""
    transactions = [entry for entry in its_own.get("transactions", ()) if entry.get("hash") not in ours]
    if not transactions:
        return {}
    pairs, native = set(changed), f"eip155:{chain_id}/native"
    found: dict[tuple[str, str], str] = {}
    for entry in transactions:
        for party in (entry.get("from"), entry.get("to")):
            if party is not None and (checksum(party), native) in pairs:
                found.setdefault((checksum(party), native), entry["hash"])
    for answer in logs:
        if isinstance(answer, RpcError):
            found = dict.fromkeys(pairs, "unknown") | found
            continue
        for log in answer or ():
            if log.get("transactionHash") not in ours:
                _note_log(log, pairs, found)
    return found


def _note_log(log: Json, pairs: Iterable[tuple[str, str]], found: dict[tuple[str, str], str]) -> None:
    token, topics = log["address"].lower(), {topic[-40:].lower() for topic in log["topics"][1:]}
    for who, asset in pairs:
        if token in asset.lower() and who[2:].lower() in topics:
            found.setdefault((who, asset), log["transactionHash"])
