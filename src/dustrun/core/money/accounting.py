"""The lines of the ledger: what each transaction of a block moved for the wallets that we know.

Balances measured around the block decide, since events can lie and coins move without them. Events say who was paid;
what they do not explain becomes a line of its own, so that the lines of a wallet add up to its balance exactly.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final, Literal

from dustrun.core.money.intent import Log
from dustrun.core.values.addresses import address_of_word
from dustrun.core.values.amounts import MAX_UINT256
from dustrun.records import dataclass

Kind = Literal["send", "receive", "fee", "allowance"]
Basis = Literal["balance", "block", "event", "receipt"]
"""How exact a line is. `balance`: measured for this transaction alone. `block`: measured for several of ours in one
block, which together are exact. `event`: balances could not be read, or strangers changed them in the same block.
`receipt`: a network fee."""
Pair = tuple[str, str]  # address, asset

# Topics: the Keccak-256 of Transfer, TransferSingle, TransferBatch, Approval, ApprovalForAll, and of Permit2's
# Approval, Permit and Lockdown. Written out: what needs no hash loads no library for it.
_TRANSFER: Final = bytes.fromhex("ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef")
_SINGLE: Final = bytes.fromhex("c3d58168c5ae7397731d063d5bbf3d657854427343f4c083240f7aacaa2d0f62")
_BATCH: Final = bytes.fromhex("4a39dc06d4c0dbc64b70af90fd698a233a518aa5d07e595d983b8c0526c8f7fb")
_APPROVAL: Final = bytes.fromhex("8c5be1e5ebec7d5bd14f71427d1e84f3dd0314c0f7b2291e5b200ac8c7c3b925")
_FOR_ALL: Final = bytes.fromhex("17307eab39ab6107e8899845ad3d59bd9653f200f220920489ca2b5937696c31")
_PERMIT2: Final = bytes.fromhex("da9fa7c1b00402c17d0161b249b1ab8bbec047c5a52207b9c112deffd817036b")
_PERMIT2_PERMIT: Final = bytes.fromhex("c6a377bfc4eb120024a8ac08eef205be16b817020812c73223e81d1bdb9708ec")
_PERMIT2_LOCKDOWN: Final = bytes.fromhex("89b1add15eff56b3dfe299ad94e01f2b52fbcb80ae1a3baea6ae8c04cb2b98a4")


@dataclass(frozen=True, slots=True)
class IncludedTransaction:
    """One of our transactions in a block, in its order there. `value_units` and `logs` are of what happened: nothing
    for one that failed. `touched` are pairs whose balances were read; `is_call`: it may have moved more than value."""

    id: str
    chain_id: int
    sender: str
    to: str
    value_units: int
    fee_units: int
    is_call: bool
    logs: tuple[Log, ...]
    touched: frozenset[Pair]


@dataclass(frozen=True, slots=True)
class Line:
    """One movement of an address: `units` is negative for what left it. The counterparty is None for a fee.

    Of an `allowance` nothing has moved: `units` is what the counterparty may take from then on, and `contract` is where
    it is recorded (the token, or Permit2)."""

    address: str
    kind: Kind
    asset: str
    units: int
    counterparty: str | None
    basis: Basis
    contract: str | None = None


def lines_of(
    block: Sequence[IncludedTransaction],
    changes: Mapping[Pair, int],
    doubtful: Collection[Pair],
    known: Collection[str],
) -> dict[str, list[Line]]:
    """The lines of each transaction by id, of the addresses in `known`. `changes` are the balance changes of the whole
    block, fees included, `doubtful` the pairs that a stranger's transaction of the block may have changed."""
    found = {one.id: [*_fee(one), *_seen(one), *_allowed(one)] for one in block}
    for pair in sorted({pair for one in block for pair in one.touched if pair[0] in known} - set(doubtful)):
        if "/erc721:" in pair[1]:
            continue  # an owner has one or none, and its event says so
        of_pair = [line for lines in found.values() for line in lines if _moves(line, pair)]
        rest = changes.get(pair, 0) - sum(line.units for line in of_pair)
        touching = [one for one in block if pair in one.touched]
        basis: Basis = "balance" if len(touching) == 1 else "block"
        for one in touching:
            found[one.id] = [_measured(line, pair, basis) for line in found[one.id]]
        if rest:
            owner = [one for one in touching if one.is_call] or touching
            if len(owner) == 1:
                basis = "balance"
            kind: Kind = "receive" if rest > 0 else "send"
            found[owner[-1].id].append(Line(*_of(pair, kind, rest), owner[-1].to, basis))
    return {id: [line for line in lines if line.address in known] for id, lines in found.items()}


def _of(pair: Pair, kind: Kind, units: int) -> tuple[str, Kind, str, int]:
    return pair[0], kind, pair[1], units


def _moves(line: Line, pair: Pair) -> bool:
    return (line.address, line.asset) == pair and line.kind != "allowance"


def _measured(line: Line, pair: Pair, basis: Basis) -> Line:
    if not _moves(line, pair) or line.kind == "fee":
        return line
    return Line(line.address, line.kind, line.asset, line.units, line.counterparty, basis)


def _fee(one: IncludedTransaction) -> Iterator[Line]:
    if one.fee_units:
        yield Line(one.sender, "fee", f"eip155:{one.chain_id}/native", -one.fee_units, None, "receipt")


def _seen(one: IncludedTransaction) -> Iterator[Line]:
    """A transaction's movements, as its value and its events show them."""
    if one.value_units and one.to != one.sender:
        yield from _both(one.sender, one.to, f"eip155:{one.chain_id}/native", one.value_units)
    for log in one.logs:
        for giver, taker, asset, units in _transfers(one.chain_id, log):
            if units and giver != taker:
                yield from _both(giver, taker, asset, units)


def _both(giver: str, taker: str, asset: str, units: int) -> Iterator[Line]:
    yield Line(giver, "send", asset, -units, taker, "event")
    yield Line(taker, "receive", asset, units, giver, "event")


def _transfers(chain_id: int, log: Log) -> Iterator[tuple[str, str, str, int]]:
    """Giver, taker, asset and units of a standard event; the zero address mints and burns."""
    topic, count = log.topics[0] if log.topics else b"", len(log.topics)
    at = f"eip155:{chain_id}"
    if topic == _TRANSFER and count == 3 and len(log.data) == 32:
        units = int.from_bytes(log.data)
        yield address_of_word(log.topics[1]), address_of_word(log.topics[2]), f"{at}/erc20:{log.address}", units
    elif topic == _TRANSFER and count == 4:
        asset = f"{at}/erc721:{log.address}/{int.from_bytes(log.topics[3])}"
        yield address_of_word(log.topics[1]), address_of_word(log.topics[2]), asset, 1
    elif topic in (_SINGLE, _BATCH) and count == 4:
        for id, units in _pieces(log.data, is_batch=topic == _BATCH):
            asset = f"{at}/erc1155:{log.address}/{id}"
            yield address_of_word(log.topics[2]), address_of_word(log.topics[3]), asset, units


def _allowed(one: IncludedTransaction) -> Iterator[Line]:
    """The allowances that events say were given; the last one of an asset and spender counts."""
    given: dict[tuple[str, str, str, str], int] = {}
    for log in one.logs:
        for owner, asset, spender, units in allowances_in(one.chain_id, log):
            given[owner, asset, spender, log.address] = units
    for (owner, asset, spender, contract), units in given.items():
        yield Line(owner, "allowance", asset, units, spender, "event", contract)


def allowances_in(chain_id: int, log: Log) -> Iterator[tuple[str, str, str, int]]:
    """Owner, asset, spender and units of a standard event. ERC-721 approvals of one token end with its transfer and are
    left out."""
    topic, count = log.topics[0] if log.topics else b"", len(log.topics)
    parties = [address_of_word(word) for word in log.topics[1:]]
    at = f"eip155:{chain_id}"
    if topic == _APPROVAL and count == 3 and len(log.data) == 32:
        yield parties[0], f"{at}/erc20:{log.address}", parties[1], int.from_bytes(log.data)
    elif topic == _FOR_ALL and count == 3 and len(log.data) == 32:
        yield parties[0], f"{at}/erc721:{log.address}", parties[1], MAX_UINT256 if any(log.data) else 0
    elif topic in (_PERMIT2, _PERMIT2_PERMIT) and count == 4 and len(log.data) >= 32:
        yield parties[0], f"{at}/erc20:{parties[1]}", parties[2], int.from_bytes(log.data[:32])
    elif topic == _PERMIT2_LOCKDOWN and count == 2 and len(log.data) == 64:
        token, spender = (address_of_word(log.data[place : place + 32]) for place in (0, 32))
        yield parties[0], f"{at}/erc20:{token}", spender, 0


def _pieces(data: bytes, *, is_batch: bool) -> list[tuple[int, int]]:
    """Ids and amounts of an ERC-1155 event; none if its data is not as the standard says."""
    words = [int.from_bytes(data[place : place + 32]) for place in range(0, len(data) - 31, 32)]
    if not is_batch:
        return [(words[0], words[1])] if len(words) >= 2 else []
    if len(words) < 2 or any(word % 32 or word // 32 >= len(words) for word in words[:2]):
        return []
    ids, amounts = (words[start + 1 : start + 1 + words[start]] for start in (words[0] // 32, words[1] // 32))
    return list(zip(ids, amounts, strict=False))
