"""Reads a chain's headers, logs and native moves; each answer certainly belongs to the block that was asked for.

Nodes index logs after they have the block, and answer `[]` until then. So an answer of none is held against the block's
bloom. If that says that there may be one, a witness decides: a log that a receipt of the block shows must be in the
index, too. If it is not, other endpoints are asked, and then the receipts. Some chains have transactions without a
receipt, whose logs are in no bloom, and some have no blooms at all. Where that is known or was seen, every block needs
a witness; and near the head, receipts decide only if there is one of each transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from typing import Any, Final, TypeVar

from dustrun import clock
from dustrun import log as logs_of_server
from dustrun.chain import wire
from dustrun.chain.evm import LiveChain
from dustrun.chain.failures import Kind, kind_of, to_error
from dustrun.chain.rpc import Rpc, RpcError, RpcRequest
from dustrun.core.triggers.chain.headers import Header, bloom_of, chance, may_have
from dustrun.core.triggers.chain.queries import LogQuery
from dustrun.core.triggers.chain.watch import BlockFacts, ChainLog, NativeMove, SentTransaction, Traces
from dustrun.core.values.addresses import checksum
from dustrun.errors import Temporary
from dustrun.records import dataclass
from dustrun.sdk.threads import in_pieces, side_by_side

# Native coin that moved in a block, from its transactions or from their traces.


_MOVING: Final = frozenset({"CALL", "CREATE", "CREATE2", "SELFDESTRUCT"})


def of_transactions(transactions: Sequence[Mapping[str, Any]]) -> list[NativeMove]:
    """The values that transactions send themselves, successful or not; one that creates a contract has no recipient."""
    moves = []
    for place, sent in enumerate(transactions):
        units = wire.quantity(sent.get("value") or "0x0")
        if units and sent.get("to") is not None:
            parties = (checksum(sent["from"]), checksum(sent["to"]))
            moves.append(NativeMove(sent["hash"], place, "", *parties, units, "transaction"))
    return moves


def of_traces(answer: Any, hashes: Sequence[str]) -> list[NativeMove] | None:
    """The movements in an answer of `debug_traceBlockByHash`; None if it is not one of `callTracer`."""
    if not isinstance(answer, list) or len(answer) != len(hashes):
        return None
    moves: list[NativeMove] = []
    for place, (entry, hash) in enumerate(zip(answer, hashes, strict=True)):
        frame = entry.get("result") if isinstance(entry, Mapping) else None
        if not isinstance(frame, Mapping) or entry.get("txHash", hash) != hash or "from" not in frame:
            return None
        moves += _of_frame(frame, hash, place, "")
    return moves


def _of_frame(frame: Mapping[str, Any], hash: str, place: int, path: str) -> Iterator[NativeMove]:
    if frame.get("error"):
        return  # it was taken back, with everything that it called
    units = wire.quantity(frame.get("value") or "0x0")
    if units and frame.get("type") in _MOVING and frame.get("to") is not None:
        parties = (checksum(frame["from"]), checksum(frame["to"]))
        yield NativeMove(hash, place, path, *parties, units, "trace")
    for number, inner in enumerate(frame.get("calls") or ()):
        yield from _of_frame(inner, hash, place, f"{path}.{number}" if path else str(number))


T = TypeVar("T")
_logger = logs_of_server.get(__name__)
_TRACED_AGAIN_S: Final = 600
_MOST_RECEIPTS: Final = 100
_PER_READ: Final = 64
_FEW_RECEIPTS: Final = 4
_HELD: Final = 4096
"""Where samples are enough, so many of the newest blocks are all held against their blooms nevertheless."""
_AT_ONCE: Final = 4
_SAMPLES: Final = 16
_WEAK: Final = 1 / 16
"""A bloom that is so full that it errs more often than this says little: of such blocks in a range, some are asked, and
all if the index lacks one of these."""
_SETTLED: Final = 8
"""An index that is so many blocks behind is not waited for."""
_TRACE_TRIES: Final = 5
"""How often the traces of a block are asked for while its endpoints are busy; it may be too large for them for good."""
_MOST_REFUSED: Final = 1024
"""Refusals of traces are counted of so many blocks, those refused last: many are read at once."""


class ChainMoved(Exception):
    """The block asked for is not known any more, or another one is in its place: start over from the headers."""


class LeftBranch(ChainMoved):
    """A reorg that was seen has removed the block: what follows is known already."""


class TooMuch(Exception):
    """The node refuses to read so many blocks at once."""


class _Behind(RpcError):
    """The node does not know the block yet; another one may."""

    def __init__(self) -> None:
        super().__init__(-32000, "unknown block")


@dataclass(frozen=True, slots=True)
class SeenBlock:
    """A block as it was read; `bloom` is 0 if the chain has none."""

    header: Header
    time: int
    bloom: int = 0
    transactions: tuple[str, ...] = field(default=(), repr=False)

    @property
    def facts(self) -> BlockFacts:
        """The part of it that events tell."""
        return BlockFacts(self.header.number, self.header.hash, self.time)


class BlockReader:
    """Reads one chain. Everything raises `Temporary` when no endpoint answers."""

    def __init__(self, chain: LiveChain) -> None:
        self._chain = chain
        self._untraced_until_s = -1e9
        self._refused: dict[str, int] = {}
        self._hides_logs = chain.network.lacks_receipts

    @property
    def chain(self) -> LiveChain:
        """The chain itself."""
        return self._chain

    @property
    def genesis(self) -> str | None:
        """The genesis hash that its endpoints report; None while unknown."""
        return next((one.genesis for one in self._chain.endpoints.all if one.genesis is not None), None)

    async def head(self) -> SeenBlock:
        """The newest block."""
        return (await self.head_and(()))[0]

    async def head_and(self, numbers: Sequence[int]) -> tuple[SeenBlock, list[SeenBlock]]:
        """The newest block, and what there is at these heights, in one request. Some may be higher than the newest."""
        named = [("latest", False), *((hex(number), False) for number in numbers)]
        asked = [RpcRequest("eth_getBlockByNumber", params) for params in named]
        newest, *others = await self._chain.endpoints.batch(asked)
        if isinstance(newest, RpcError):
            raise to_error(newest, f"eth_getBlockByNumber of {self._chain.network.name}")
        return _block(newest), [_block(one) for one in others if one is not None and not isinstance(one, RpcError)]

    async def finalized(self) -> int | None:
        """The height of the finalized block; None if no endpoint says it."""
        try:
            block = await self._chain.finalized()
        except Temporary:
            return None
        return None if block is None else block.number

    async def blocks(self, numbers: Sequence[int]) -> list[SeenBlock | None]:
        """The canonical blocks at these heights, in one request."""
        asked = [RpcRequest("eth_getBlockByNumber", (hex(number), False)) for number in numbers]
        if not asked:
            return []
        return [None if answer is None else _block(answer) for answer in await self._many(asked)]

    async def content(
        self, block: Header, query: LogQuery | None, wanted: Sequence[LogQuery] = (), depth: int = 0
    ) -> tuple[BlockFacts, list[ChainLog]]:
        """A block and its logs, asked by its hash, in one request: some nodes answer for a block that they do not know
        with an empty list of logs. `query` covers what is `wanted`; `depth`: how many blocks are on top of it."""
        facts, logs, _ = await self._content(block, query, wanted, depth)
        return facts, logs

    async def _content(
        self, block: Header, query: LogQuery | None, wanted: Sequence[LogQuery], depth: int
    ) -> tuple[BlockFacts, list[ChainLog], bool]:
        """As `content`, and whether an index turned out to lack the block."""
        asked = [RpcRequest("eth_getBlockByHash", (block.hash, False))]
        if query is not None:
            asked.append(_logs_of(block.hash, query))
        known, *answers = await self._chain.endpoints.batch(asked)
        seen = self._seen(known, "eth_getBlockByHash")
        if seen is None or None in answers:
            raise ChainMoved
        if not answers or query is None:
            return seen.facts, [], False
        if isinstance(answers[0], RpcError):
            return seen.facts, await self._without_query(seen, answers[0]), False
        logs = await _logs(answers[0])
        if any(log.block_hash != block.hash for log in logs):
            raise ChainMoved
        self._compare(seen, logs)
        if not logs and wanted and (self._is_mute(seen, depth) or any(may_have(seen.bloom, one) for one in wanted)):
            return seen.facts, *await self._in_doubt(seen, query, depth)
        return seen.facts, logs, False

    def _compare(self, block: SeenBlock, logs: Sequence[ChainLog]) -> None:
        """Notices that the chain has logs which no bloom announces; those without a receipt are last in their block."""
        if not self._hides_logs and any(not may_have(block.bloom, _exactly(log)) for log in (*logs[:1], *logs[-1:])):
            self._hides_logs = True
            _logger.warning("a chain has logs that are in no bloom", chain=self._chain.network.name)

    def _is_mute(self, block: SeenBlock, depth: int) -> bool:
        """Whether the bloom of a block does not say which logs it has not."""
        return bool(block.transactions) and (self._hides_logs or (block.bloom == 0 and depth < _SETTLED))

    async def _without_query(self, block: SeenBlock, error: RpcError) -> list[ChainLog]:
        """The logs of a block for which the query is refused."""
        if kind_of(error) is Kind.NO_STATE:
            raise ChainMoved
        try:
            return await self._by_receipts(block, must_be_all=True)
        except Temporary:
            raise to_error(error, f"eth_getLogs of {self._chain.network.name}") from None

    async def _in_doubt(self, block: SeenBlock, query: LogQuery, depth: int) -> tuple[list[ChainLog], bool]:
        """The logs of a block of which an index shows none though it may have some, and whether that index lacks it."""
        witness, is_whole = await self._witness(block)
        if witness is None and is_whole:
            return [], False
        lacking: list[Rpc] = []
        if witness is not None:
            asked = [_logs_of(block.header.hash, query), _logs_of(block.header.hash, _exactly(witness))]
            try:
                read = self._chain.endpoints.read
                found = await read(lambda rpc: _with_witness(rpc, asked, lacking), "eth_getLogs")
            except RpcError:
                pass  # no index has the block
            else:
                return await _logs(found), bool(lacking)
        return await self._by_receipts(block, must_be_all=depth < _SETTLED), bool(lacking)

    async def _witness(self, block: SeenBlock) -> tuple[ChainLog | None, bool]:
        """A log that a receipt of the block shows, and whether all were read."""
        start, size, is_whole = 0, _FEW_RECEIPTS, True
        while start < len(block.transactions):
            asked = block.transactions[start : start + size]
            for receipt in await self._many([RpcRequest("eth_getTransactionReceipt", (hash,)) for hash in asked]):
                is_whole &= receipt is not None
                if receipt is not None and receipt.get("blockHash") != block.header.hash:
                    raise ChainMoved
                if receipt is not None and receipt.get("logs"):
                    return _log(receipt["logs"][0]), False
            start, size = start + size, min(4 * size, _MOST_RECEIPTS)
        return None, is_whole

    async def _by_receipts(self, block: SeenBlock, must_be_all: bool) -> list[ChainLog]:
        """All logs of a block from its receipts, if there is one of each transaction; else, unless that must be so, if
        their bloom is that of the block. Else raises `Temporary`."""
        (answer,) = await self._chain.endpoints.batch([RpcRequest("eth_getBlockReceipts", (block.header.hash,))])
        if not isinstance(answer, list):
            answer = []
            for start in range(0, len(block.transactions), _MOST_RECEIPTS):
                part = block.transactions[start : start + _MOST_RECEIPTS]
                answer += await self._many([RpcRequest("eth_getTransactionReceipt", (hash,)) for hash in part])
        receipts = [one for one in answer if one is not None]
        if any(one.get("blockHash") != block.header.hash for one in receipts):
            raise ChainMoved
        logs = await _logs([entry for one in receipts for entry in one.get("logs") or ()])
        items = {item for log in logs for item in (log.address, *log.topics)}
        if len(receipts) < len(block.transactions) and (must_be_all or bloom_of(items) != block.bloom):
            name = self._chain.network.name
            raise Temporary(
                f"No endpoint of {name} has the logs of block {block.header.number} yet, and not all of its "
                "transactions have receipts.",
                retry_after_s=1,
            )
        return logs

    async def logs_between(
        self, first: int, last: int, query: LogQuery, wanted: Sequence[LogQuery], head: int, is_sampled: bool = False
    ) -> tuple[SeenBlock, list[ChainLog]]:
        """The last block of a range of heights, and the range's logs in order, asked in one request: a node that does
        not know the last blocks yet has no logs of them, and says nothing about it. The caller compares each log's
        block with the header. All blocks without a log are held against their blooms; if it `is_sampled`, of those that
        are `_HELD` blocks old some, and all only if one of these shows that the index has holes. Raises `TooMuch`."""
        ranged = {**query.params(), "fromBlock": hex(first), "toBlock": hex(last)}
        asked = (RpcRequest("eth_getBlockByNumber", (hex(last), False)), RpcRequest("eth_getLogs", (ranged,)))
        try:
            end, found = await self._chain.endpoints.read(lambda rpc: _block_and_logs(rpc, asked), "eth_getLogs")
        except _Behind:
            raise ChainMoved from None
        except RpcError as error:
            if last > first and kind_of(error) is not Kind.NO_METHOD:
                raise TooMuch from None
            raise to_error(error, "eth_getLogs") from None
        logs = await _logs(found)
        filled = {log.block_number for log in logs}
        empty = [number for number in range(first, last + 1) if number not in filled]
        old = [number for number in empty if number <= head - _HELD] if is_sampled else []
        some = [*_some(old), *empty[len(old) :]]
        hidden, is_lacking = await self._hidden(some, query, wanted, head)
        if is_lacking and len(some) < len(empty):
            hidden += (await self._hidden(sorted({*empty} - {*some}), query, wanted, head))[0]
        return _block(end), sorted([*logs, *hidden], key=_place_of) if hidden else logs

    async def _hidden(
        self, empty: Sequence[int], query: LogQuery, wanted: Sequence[LogQuery], head: int
    ) -> tuple[list[ChainLog], bool]:
        """The logs of blocks in which a range found none, and whether the index lacks one of them."""
        strong, weak = await self._doubtful(empty, wanted, head)
        some = _some(weak)
        logs, is_lacking = await self._logs_in([*strong, *some], query, wanted, head)
        if is_lacking and len(some) < len(weak):
            asked = {*some}
            logs += (await self._logs_in([one for one in weak if one not in asked], query, wanted, head))[0]
        return logs, is_lacking

    async def _doubtful(
        self, empty: Sequence[int], wanted: Sequence[LogQuery], head: int
    ) -> tuple[list[Header], list[Header]]:
        """Of blocks in which a range found nothing, those whose blooms say that there may be a log, and those whose
        blooms say little."""

        def judge(blocks: Sequence[SeenBlock]) -> list[tuple[Header, bool]]:
            found = []
            for block in blocks:
                depth = head - block.header.number
                chances = [chance(block.bloom, one) for one in wanted if may_have(block.bloom, one)]
                is_strong = bool(chances) and min(chances) < _WEAK
                if chances or self._is_mute(block, depth):
                    found.append((block.header, is_strong or (not chances and depth < _SETTLED)))
            return found

        doubts: list[tuple[Header, bool]] = []
        parts = [empty[start : start + _PER_READ] for start in range(0, len(empty), _PER_READ)]
        for start in range(0, len(parts), _AT_ONCE):
            for blocks in await side_by_side(*(self.blocks(part) for part in parts[start : start + _AT_ONCE])):
                known = [block for block in blocks if block is not None]
                if len(known) < len(blocks):
                    raise ChainMoved
                doubts += await in_pieces(judge, known)
        return [one for one, is_strong in doubts if is_strong], [one for one, is_strong in doubts if not is_strong]

    async def _logs_in(
        self, blocks: Sequence[Header], query: LogQuery, wanted: Sequence[LogQuery], head: int
    ) -> tuple[list[ChainLog], bool]:
        """The logs of blocks in which a range found none, and whether the index lacks one of them."""
        found: list[ChainLog] = []
        is_lacking = False
        for start in range(0, len(blocks), _SAMPLES):
            part = blocks[start : start + _SAMPLES]
            reads = [self._content(one, query, wanted, head - one.number) for one in part]
            for _, logs, lacks in await side_by_side(*reads):
                found += logs
                is_lacking = is_lacking or lacks or bool(logs)
        return found, is_lacking

    async def first_indexes(self, logs: Iterable[ChainLog]) -> dict[str, int]:
        """The index of the first log of each log's transaction, by transaction; a query may have hidden it. Where there
        is no receipt, all logs of the block say it; a transaction of which neither does is left out."""
        blocks = {log.transaction_hash: log.block_hash for log in logs}
        hashes = list(blocks)
        found: dict[str, int] = {}
        for start in range(0, len(hashes), _MOST_RECEIPTS):
            part = hashes[start : start + _MOST_RECEIPTS]
            asked = [RpcRequest("eth_getTransactionReceipt", (hash,)) for hash in part]
            for hash, receipt in zip(part, await self._chain.endpoints.batch(asked), strict=True):
                if isinstance(receipt, Mapping) and receipt.get("blockHash") == blocks[hash] and receipt.get("logs"):
                    found[hash] = wire.quantity(receipt["logs"][0]["logIndex"])
        for block in dict.fromkeys(blocks[hash] for hash in hashes if hash not in found):
            for log in await _logs(await self._read(_logs_of(block, LogQuery())) or ()):
                if blocks.get(log.transaction_hash) == block:
                    found[log.transaction_hash] = min(log.index, found.get(log.transaction_hash, log.index))
        return found

    async def heights(self, transactions: Sequence[str]) -> set[int]:
        """The heights of the blocks that these transactions are in, without those that are in none."""
        found: set[int] = set()
        for start in range(0, len(transactions), _MOST_RECEIPTS):
            part = transactions[start : start + _MOST_RECEIPTS]
            receipts = await self._many([RpcRequest("eth_getTransactionReceipt", (hash,)) for hash in part])
            found |= {wire.quantity(receipt.get("blockNumber")) for receipt in receipts if receipt is not None}
        return found

    async def moves(self, block: Header, traces: Traces, wanted: Callable[[NativeMove], bool]) -> list[NativeMove]:
        """The wanted moves of native coin in a block, in order: from its traces, else from its transactions."""
        if traces != "never" and (traces == "require" or clock.monotonic_s() >= self._untraced_until_s):
            traced = await self._traced(block)
            if traced is not None:
                return [move for move in traced if wanted(move)]
            if traces == "require":
                raise Temporary(f"No endpoint of {self._chain.network.name} answers debug_traceBlockByHash.")
        answer = await self._read(RpcRequest("eth_getBlockByHash", (block.hash, True)))
        if answer is None:
            raise ChainMoved
        moves = [move for move in of_transactions(answer["transactions"]) if wanted(move)]
        return await self._succeeded(block, moves)

    async def transactions(self, block: Header, wanted: Callable[[SentTransaction], bool]) -> list[SentTransaction]:
        """The wanted transactions of a block, in order, with what their receipts say."""
        answer = await self._read(RpcRequest("eth_getBlockByHash", (block.hash, True)))
        if answer is None:
            raise ChainMoved
        sent = [one for place, entry in enumerate(answer["transactions"]) if wanted(one := _sent(entry, place))]
        found: list[SentTransaction] = []
        for start in range(0, len(sent), _MOST_RECEIPTS):
            part = sent[start : start + _MOST_RECEIPTS]
            asked = [RpcRequest("eth_getTransactionReceipt", (one.hash,)) for one in part]
            for one, receipt in zip(part, await self._many(asked), strict=True):
                if receipt is None:
                    raise self._no_receipt(one.hash)
                if receipt.get("blockHash") != block.hash:
                    raise ChainMoved
                made = receipt.get("contractAddress")
                found.append(
                    replace(
                        one,
                        succeeded=wire.quantity(receipt.get("status") or "0x1") == 1,
                        gas_used=wire.quantity(receipt.get("gasUsed") or "0x0"),
                        contract=None if made is None else checksum(made),
                    )
                )
        return found

    async def _traced(self, block: Header) -> list[NativeMove] | None:
        """The moves in a block's traces; None if no endpoint has them, or each refuses again and again."""
        answer, kind = None, None
        try:
            answer = await self._chain.endpoints.call("debug_traceBlockByHash", block.hash, {"tracer": "callTracer"})
        except RpcError as error:
            kind = kind_of(error)
            if kind is Kind.BUSY:
                self._count_refusal(block, error)
        body = await self._read(RpcRequest("eth_getBlockByHash", (block.hash, False)))
        if body is None:
            raise ChainMoved
        moves = of_traces(answer, body["transactions"])
        if moves is None and kind in (None, Kind.NO_METHOD):
            self._untraced_until_s = clock.monotonic_s() + _TRACED_AGAIN_S
        return moves

    def _count_refusal(self, block: Header, error: RpcError) -> None:
        """Raises `Temporary` unless the block's traces were refused so often that they may never come."""
        count = self._refused[block.hash] = self._refused.pop(block.hash, 0) + 1
        while len(self._refused) > _MOST_REFUSED:
            del self._refused[next(iter(self._refused))]
        if count < _TRACE_TRIES:
            raise to_error(error, "debug_traceBlockByHash") from None

    async def _succeeded(self, block: Header, moves: Sequence[NativeMove]) -> list[NativeMove]:
        """Without those of transactions that failed: they moved nothing."""
        if not moves:
            return []
        asked = [RpcRequest("eth_getTransactionReceipt", (move.transaction_hash,)) for move in moves]
        kept = []
        for move, receipt in zip(moves, await self._many(asked), strict=True):
            if receipt is None:
                raise self._no_receipt(move.transaction_hash)
            if receipt.get("blockHash") != block.hash:
                raise ChainMoved
            if wire.quantity(receipt.get("status") or "0x1") == 1:
                kept.append(move)
        return kept

    def _no_receipt(self, hash: str) -> Temporary:
        return Temporary(f"No endpoint of {self._chain.network.name} has the receipt of {hash}.", retry_after_s=1)

    async def _read(self, request: RpcRequest) -> Any:
        return (await self._many([request]))[0]

    def _seen(self, answer: Any, method: str) -> SeenBlock | None:
        if isinstance(answer, RpcError):
            if kind_of(answer) is Kind.NO_STATE:
                return None
            raise to_error(answer, f"{method} of {self._chain.network.name}")
        return None if answer is None else _block(answer)

    async def _many(self, asked: Sequence[RpcRequest]) -> list[Any]:
        answers = await self._chain.endpoints.batch(asked)
        for answer, request in zip(answers, asked, strict=True):
            if isinstance(answer, RpcError):
                if kind_of(answer) is Kind.NO_STATE:
                    raise ChainMoved
                raise to_error(answer, f"{request.method} of {self._chain.network.name}")
        return answers


async def _block_and_logs(rpc: Rpc, asked: Sequence[RpcRequest]) -> tuple[Any, Any]:
    """Both answers; raises the `RpcError` of either, and `_Behind` for no block."""
    end, found = await rpc.batch(asked)
    for answer in (end, found):
        if isinstance(answer, RpcError):
            raise answer
    if end is None or found is None:
        raise _Behind
    return end, found


async def _with_witness(rpc: Rpc, asked: Sequence[RpcRequest], lacking: list[Rpc]) -> Any:
    """The first answer, if the second one shows that the node has indexed the block; else raises `_Behind`, and adds
    the node to those that lack it."""
    found, shown = await rpc.batch(asked)
    for answer in (found, shown):
        if isinstance(answer, RpcError):
            raise answer
    if not shown or found is None:
        lacking.append(rpc)
        raise _Behind
    return found


def _exactly(log: ChainLog) -> LogQuery:
    return LogQuery(frozenset((log.address.lower(),)), tuple(frozenset((topic,)) for topic in log.topics))


def _logs_of(block: str, query: LogQuery) -> RpcRequest:
    return RpcRequest("eth_getLogs", ({**query.params(), "blockHash": block},))


def _some(several: Sequence[T]) -> list[T]:
    """A few of them, evenly, with the first and the last."""
    if len(several) <= _SAMPLES:
        return list(several)
    return [several[place * (len(several) - 1) // (_SAMPLES - 1)] for place in range(_SAMPLES)]


def _block(answer: Any) -> SeenBlock:
    if not isinstance(answer, Mapping) or not isinstance(answer.get("hash"), str):
        raise wire.malformed("a block")
    header = Header(wire.quantity(answer.get("number")), answer["hash"], str(answer.get("parentHash")))
    bloom = answer.get("logsBloom")
    sent = tuple(one if isinstance(one, str) else one["hash"] for one in answer.get("transactions") or ())
    time = wire.quantity(answer.get("timestamp"))
    return SeenBlock(header, time, int(bloom, 16) if isinstance(bloom, str) and len(bloom) > 2 else 0, sent)


def _sent(entry: Any, place: int) -> SentTransaction:
    try:
        to = entry.get("to")
        return SentTransaction(
            hash=entry["hash"],
            index=place,
            sender=checksum(entry["from"]),
            recipient=None if to is None else checksum(to),
            units=wire.quantity(entry.get("value") or "0x0"),
            data=bytes.fromhex(entry.get("input", "0x")[2:]),
            nonce=wire.quantity(entry.get("nonce") or "0x0"),
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        raise wire.malformed("a transaction") from None


async def _logs(entries: Sequence[Any]) -> list[ChainLog]:
    """Logs of an answer, in order of blocks and of places in them."""
    found = await in_pieces(lambda part: map(_log, part), entries)
    found.sort(key=_place_of)
    return found


def _place_of(log: ChainLog) -> tuple[int, int]:
    return log.block_number, log.index


def _log(entry: Any) -> ChainLog:
    try:
        return ChainLog(
            address=checksum(entry["address"]),
            topics=tuple(str(topic).lower() for topic in entry["topics"]),
            data=wire.data(entry.get("data") or "0x"),
            block_number=wire.quantity(entry["blockNumber"]),
            block_hash=entry["blockHash"],
            transaction_hash=entry["transactionHash"],
            transaction_index=wire.quantity(entry["transactionIndex"]),
            index=wire.quantity(entry["logIndex"]),
        )
    except (KeyError, TypeError, AttributeError):
        raise wire.malformed("a log") from None
