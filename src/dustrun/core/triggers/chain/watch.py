"""Watches of a chain trigger, and the events that they find in a block."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal

from dustrun.core.expression import ExpressionError
from dustrun.core.triggers.chain.queries import LogQuery
from dustrun.records import dataclass

FINALIZED: Final = "finalized"
Confirmations = int | Literal["finalized"]
OnReorg = Literal["ignore", "retract"]
Traces = Literal["auto", "never", "require"]


@dataclass(frozen=True, slots=True)
class BlockFacts:
    """A block; `time` in seconds since the epoch."""

    number: int
    hash: str
    time: int


@dataclass(frozen=True, slots=True)
class ChainLog:
    """One event log. `index` is its place in the block, `address` checksummed, topics 0x-hex."""

    address: str
    topics: tuple[str, ...]
    data: bytes
    block_number: int
    block_hash: str
    transaction_hash: str
    transaction_index: int
    index: int

    @property
    def topic_bytes(self) -> list[bytes]:
        """The topics as bytes."""
        return [bytes.fromhex(topic[2:]) for topic in self.topics]


@dataclass(frozen=True, slots=True)
class NativeMove:
    """Native coin that moved: by a transaction itself (`path` empty) or by a call within it (like `0.2`).

    `source` is what it was read from. The path is the same from both sources, and so is the event's key.
    """

    transaction_hash: str
    transaction_index: int
    path: str
    sender: str
    recipient: str
    units: int
    source: Literal["transaction", "trace"]


@dataclass(frozen=True, slots=True)
class SentTransaction:
    """A transaction in a block. `recipient` None: it creates `contract`. `succeeded`, `gas_used` and `contract` are
    None until its receipt is read."""

    hash: str
    index: int
    sender: str
    recipient: str | None
    units: int
    data: bytes
    nonce: int
    succeeded: bool | None = None
    gas_used: int | None = None
    contract: str | None = None


MatchLog = Callable[[ChainLog], Mapping[str, Any] | None]
MatchMove = Callable[[NativeMove], Mapping[str, Any] | None]
MatchTransaction = Callable[[SentTransaction], Mapping[str, Any] | None]


@dataclass(frozen=True, slots=True)
class ChainWatch:
    """The watch of one subscription on one chain.

    `confirmations` None: the chain's default. Exactly one of these: `query` with `match_log`; `match_move`;
    `match_transaction`, which is asked before the receipt is read and after; `every` (blocks). A matcher returns the
    event's own fields, or None; `match_log` raises `ExpressionError` for a filter that cannot be evaluated.
    """

    chain_id: int
    confirmations: Confirmations | None
    query: LogQuery | None = None
    match_log: MatchLog | None = None
    match_move: MatchMove | None = None
    match_transaction: MatchTransaction | None = None
    traces: Traces = "auto"
    every: int | None = None
    from_block: int | None = None
    on_reorg: OnReorg = "ignore"


@dataclass(frozen=True, slots=True)
class ChainEvent:
    """An event that a subscription found. `key` identifies it across reorgs: chain, transaction, and position in it.

    `place` orders the events of a block. `failure`: its filter could not be evaluated, so no run starts. `seen`: its
    position in the transaction now, if that is not the one in its key.
    """

    key: str
    place: int
    payload: Mapping[str, Any]
    block: BlockFacts
    failure: str | None = None
    seen: str | None = None


def head_fields(chain_id: int, block: BlockFacts) -> dict[str, Any]:
    """The fields of every chain event."""
    return {
        "chainId": chain_id,
        "blockNumber": block.number,
        "blockHash": block.hash,
        "blockTime": block.time,
        "reorg": None,
    }


@dataclass(frozen=True, slots=True)
class MatchedLog:
    """A log that matched; its position in its transaction is still to be read."""

    log: ChainLog
    fields: Mapping[str, Any]
    failure: str | None


def match_logs(watch: ChainWatch, logs: Iterable[ChainLog]) -> Iterator[MatchedLog]:
    """The logs that a subscription wants, in the same order."""
    assert watch.query is not None
    assert watch.match_log is not None
    for log in logs:
        if not watch.query.wants(log.address, log.topics):
            continue
        try:
            fields, failure = watch.match_log(log), None
        except ExpressionError as error:
            fields, failure = {}, f"The filter cannot be evaluated: {error}"
        if fields is not None:
            yield MatchedLog(log, fields, failure)


def log_event(watch: ChainWatch, block: BlockFacts, found: MatchedLog, position: int) -> ChainEvent:
    """The event of a log at a position in its transaction."""
    log = found.log
    payload = {
        **head_fields(watch.chain_id, block),
        "transactionHash": log.transaction_hash,
        "transactionIndex": log.transaction_index,
        "logIndex": log.index,
        "position": position,
        "contract": log.address,
        **found.fields,
    }
    return ChainEvent(f"{watch.chain_id}:{log.transaction_hash}:{position}", log.index, payload, block, found.failure)


def move_events(watch: ChainWatch, block: BlockFacts, moves: Sequence[NativeMove]) -> list[ChainEvent]:
    """The events of native coin that moved in a block."""
    assert watch.match_move is not None
    events = []
    for place, move in enumerate(moves):
        fields = watch.match_move(move)
        if fields is None:
            continue
        payload = {
            **head_fields(watch.chain_id, block),
            "transactionHash": move.transaction_hash,
            "transactionIndex": move.transaction_index,
            "foundIn": move.source,
            "path": move.path,
            **fields,
        }
        key = f"{watch.chain_id}:{move.transaction_hash}:native{'.' if move.path else ''}{move.path}"
        events.append(ChainEvent(key, place, payload, block))
    return events


def transaction_events(watch: ChainWatch, block: BlockFacts, sent: Sequence[SentTransaction]) -> list[ChainEvent]:
    """The events of the transactions of a block, whose receipts are read."""
    assert watch.match_transaction is not None
    events = []
    for one in sent:
        fields = watch.match_transaction(one)
        if fields is None:
            continue
        payload = {
            **head_fields(watch.chain_id, block),
            "transactionHash": one.hash,
            "transactionIndex": one.index,
            "sender": one.sender,
            "recipient": one.recipient,
            "amount": str(one.units),
            "nonce": one.nonce,
            "status": "success" if one.succeeded else "reverted",
            "gasUsed": str(one.gas_used),
            **fields,
        }
        events.append(ChainEvent(f"{watch.chain_id}:{one.hash}:transaction", one.index, payload, block))
    return events


def block_events(watch: ChainWatch, block: BlockFacts) -> list[ChainEvent]:
    """The event of every Nth block; its key is its height, so a block that replaces it starts no second run."""
    assert watch.every is not None
    if block.number % watch.every:
        return []
    payload = head_fields(watch.chain_id, block)
    return [ChainEvent(f"{watch.chain_id}:block:{block.number}", 0, payload, block)]


def target_of(watch: ChainWatch, head: int, finalized: int | None) -> int:
    """The newest block that may be scanned; negative if there is none."""
    if watch.confirmations == FINALIZED:
        return -1 if finalized is None else min(finalized, head)
    assert isinstance(watch.confirmations, int)
    return head - watch.confirmations
