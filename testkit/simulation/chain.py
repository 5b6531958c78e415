"""A chain in memory that pays native coin: a block tree, a mempool, nonces, fees, and reorgs, as real chains have them.

Blocks come when their time has come, whoever asks. `tests/simulation/test_chain.py` holds its answers against anvil's.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import rlp  # type: ignore[import-untyped]
from eth_account import Account
from eth_utils.crypto import keccak

GAS: Final = 21_000
BLOCK_S: Final = 30
GWEI: Final = 10**9
START_UNITS: Final = 10**20
_FULL: Final = 40


class Rejected(Exception):
    """The mempool does not take a transaction; with the words of a real node."""


@dataclass(frozen=True, slots=True)
class Sent:
    """One signed transaction, EIP-1559."""

    hash: str
    raw: bytes
    sender: str
    nonce: int
    tip: int
    max_fee: int
    gas: int
    to: str
    value: int

    @property
    def most(self) -> int:
        """The most that it can take from its sender."""
        return self.value + self.gas * self.max_fee


def decode(raw: bytes) -> Sent:
    """Reads signed bytes."""
    if raw[0] != 2:
        raise Rejected("transaction type not supported")
    fields: Any = rlp.decode(raw[1:])
    nonce, tip, max_fee, gas = (int.from_bytes(part) for part in fields[1:5])
    sender = Account.recover_transaction(raw).lower()
    return Sent(
        "0x" + keccak(raw).hex(),
        raw,
        sender,
        nonce,
        tip,
        max_fee,
        gas,
        "0x" + fields[5].hex(),
        int.from_bytes(fields[6]),
    )


@dataclass(frozen=True, slots=True)
class Block:
    """One block of the tree, with the state after it."""

    number: int
    hash: str
    parent: str
    time: int
    base_fee: int
    body: tuple[Sent, ...]
    balances: dict[str, int]
    nonces: dict[str, int]

    def price(self, sent: Sent) -> int:
        """What a transaction pays for a unit of gas in it."""
        return min(sent.max_fee, self.base_fee + sent.tip)


@dataclass(slots=True)
class Chain:
    """`now_s` is the time of the world, `started_s` that of block 0. `reorgs`: of a thousand blocks, how many are
    followed by one, of at most `deepest` blocks; `forgets`, `holds`: of a thousand transactions that come back from a
    reorg, how many the mempool forgets, and how many miners leave out for some blocks; `deaf`: of a thousand
    replacements, of how many some miners do not hear, so that the older one may be mined."""

    now_s: Callable[[], float]
    started_s: int
    chance: random.Random
    reorgs: int = 0
    deepest: int = 3
    forgets: int = 0
    holds: int = 0
    deaf: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    branch: list[Block] = field(default_factory=list)
    by_hash: dict[str, Block] = field(default_factory=dict)
    pool: dict[str, Sent] = field(default_factory=dict)
    seen: dict[str, Sent] = field(default_factory=dict)
    heads: list[tuple[int, int]] = field(default_factory=list)
    """The height of each new head, with the seconds since block 0 at which it came."""

    _made: int = 0
    _due: int = 0
    _held: list[tuple[int, Sent]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begins with a block in which nobody has anything."""
        self._add(Block(0, "0x" + keccak(b"genesis").hex(), "0x" + "00" * 32, self.started_s, GWEI, (), {}, {}))

    def _hash(self) -> str:
        self._made += 1
        return "0x" + keccak(f"{self._made}:{self.chance.getrandbits(64)}".encode()).hex()

    def _add(self, block: Block) -> None:
        self.branch.append(block)
        self.by_hash[block.hash] = block
        self.heads.append((block.time - self.started_s, block.number))

    @property
    def head(self) -> Block:
        """The newest canonical block, by now."""
        self.catch_up()
        return self.branch[-1]

    def fund(self, address: str) -> None:
        """Gives an address coins in the newest block."""
        self.branch[-1].balances[address.lower()] = START_UNITS

    def catch_up(self) -> None:
        """Makes all blocks that are due."""
        due = int(self.now_s()) // BLOCK_S
        while self._due < due:
            self._due += 1
            self._mine()
            hurts = any(block.body for block in self.branch[-self.deepest :])
            if self.chance.randrange(1000) < self.reorgs * (5 if hurts else 1) and len(self.branch) > self.deepest + 2:
                self.reorg(self.chance.randint(1, self.deepest))

    def _mine(self) -> None:
        parent = self.branch[-1]
        balances, nonces = dict(parent.balances), dict(parent.nonces)
        base_fee = self._base_fee(parent.number + 1)
        body: list[Sent] = []
        self._release(parent.number)
        for sent in self._ordered():
            fits = sent.max_fee >= base_fee and nonces.get(sent.sender, 0) == sent.nonce and len(body) < _FULL
            if fits and balances.get(sent.sender, 0) >= sent.most:
                price = min(sent.max_fee, base_fee + sent.tip)
                balances[sent.sender] -= sent.value + GAS * price
                balances[sent.to] = balances.get(sent.to, 0) + sent.value
                nonces[sent.sender] = sent.nonce + 1
                body.append(sent)
        time = self.started_s + self._due * BLOCK_S
        self._add(Block(parent.number + 1, self._hash(), parent.hash, time, base_fee, tuple(body), balances, nonces))
        self.pool = {one.hash: one for one in self.pool.values() if one.nonce >= nonces.get(one.sender, 0)}

    def _base_fee(self, number: int) -> int:
        """In five of twelve blocks gas is dear: longer than a server waits before it raises a bid."""
        return 30 * GWEI if number % 12 >= 7 else GWEI

    def _ordered(self) -> list[Sent]:
        """By nonce within a sender; a block may leave some out, as real ones do."""
        taken = [one for one in self.pool.values() if self.chance.random() < 0.8]
        if self.deaf:
            self.chance.shuffle(taken)
        return sorted(taken, key=lambda one: (one.sender, one.nonce))

    def _release(self, number: int) -> None:
        for one in [one for at, one in self._held if at <= number]:
            self.pool.setdefault(one.hash, one)
        self._held = [held for held in self._held if held[0] > number]

    def reorg(self, depth: int, forgotten: str = "", held: str = "") -> None:
        """Takes the newest blocks back, and makes one more of others. What was in them comes back to the mempool at
        once or later, or is forgotten. `forgotten`, `held`: all of that sender is, or comes later, and nothing of
        others."""
        self.counts["reorgs"] += 1
        gone = self.branch[-depth:]
        del self.branch[-depth:]
        for block in gone:
            for sent in block.body:
                drawn = self.chance.randrange(1000) - self.forgets
                if forgotten or held:
                    drawn = -1 if sent.sender == forgotten else 1000
                if drawn < 0:
                    self.counts["forgotten transactions"] += 1
                elif drawn < self.holds or sent.sender == held:
                    self._held.append((block.number + self.chance.randint(2, 6), sent))
                    self.counts["held transactions"] += 1
                else:
                    self.pool.setdefault(sent.hash, sent)
        for _ in range(depth + 1):
            self._mine()

    def send(self, raw: bytes) -> str:
        """Takes a transaction into the mempool; raises `Rejected`."""
        state, sent = self.head, decode(raw)
        if sent.hash in self.pool:
            raise Rejected("already known")
        if sent.nonce < state.nonces.get(sent.sender, 0):
            raise Rejected(f"nonce too low: next nonce {state.nonces.get(sent.sender, 0)}, tx nonce {sent.nonce}")
        if state.balances.get(sent.sender, 0) < sent.most:
            raise Rejected("insufficient funds for gas * price + value")
        rivals = [one for one in self.pool.values() if (one.sender, one.nonce) == (sent.sender, sent.nonce)]
        if rivals:
            rival = max(rivals, key=lambda one: one.max_fee)
            # geth's rule; anvil takes every higher bid
            if sent.max_fee * 10 < rival.max_fee * 11 or sent.tip * 10 < rival.tip * 11:
                raise Rejected("replacement transaction underpriced")
            if self.chance.randrange(1000) >= self.deaf:
                del self.pool[rival.hash]
            self.counts["replacements"] += 1
        self.pool[sent.hash] = self.seen[sent.hash] = sent
        return sent.hash

    def place_of(self, hash: str) -> tuple[Block, int] | None:
        """The canonical block of a transaction and its position in it."""
        self.catch_up()
        for block in reversed(self.branch):
            for place, sent in enumerate(block.body):
                if sent.hash == hash:
                    return block, place
        return None

    def cost_of(self, hash: str) -> int:
        """What a transaction has taken from its sender; 0 if it is not on the chain."""
        found = self.place_of(hash)
        if found is None:
            return 0
        block, place = found
        return block.body[place].value + GAS * block.price(block.body[place])

    def height_at(self, seconds: float) -> int:
        """The greatest height that was known by then."""
        return max(number for at, number in self.heads if at <= seconds)

    def pending_nonce(self, address: str) -> int:
        """The next nonce after those in the mempool that follow each other."""
        next_one = self.head.nonces.get(address, 0)
        waiting = {one.nonce for one in self.pool.values() if one.sender == address}
        while next_one in waiting:
            next_one += 1
        return next_one
