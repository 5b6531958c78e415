"""Payments on a hostile chain: transactions whose events, amounts and order depend on the block that they are in."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from testkit.chain.hostile_node import COLLECTION, Included, Tree, moved_nft, paid

_FRONT: Final = 1_000_000
"""The number of an event that a transaction emits in front of its own, in some blocks only."""


@dataclass(slots=True)
class Payments:
    """Puts payments on a tree, and takes blocks back. A payment has one to three events, each with a number of its own;
    some events are equal. Its amounts change with what was paid before it. `lacks_receipts`: some never have one;
    `moves_nfts`: each also mints a token, to somebody who depends on what was paid before, too."""

    tree: Tree
    chance: random.Random
    lacks_receipts: bool = False
    moves_nfts: bool = False
    sent: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    _where: dict[int, int] = field(default_factory=dict)

    def body(self, payments: Iterable[int], before: int) -> list[Included]:
        """A block's transactions; `before`: how many others came before them."""
        found = []
        for place, payment in enumerate(payments):
            order = before + place
            numbers = [10 * payment + index for index in range(1 + payment % 3)]
            if payment % 4 == 0:
                numbers.append(numbers[0])  # equal to the first
            logs = [paid(number, 1_000 * number + (order % 7 if payment % 2 else 0)) for number in numbers]
            if order % 5 == 3 and payment % 2 == 0:
                logs.insert(0, paid(_FRONT + payment, 1))
            if order % 3 == 1 and payment % 2 == 0:
                logs.reverse()
            if self.moves_nfts:
                logs.append(moved_nft(payment, f"0x{1 + order % 7:040x}"))
            is_receipted = not self.lacks_receipts or payment % 11 != 10
            found.append(Included(f"0x{payment:064x}", tuple(logs), is_receipted, payment))
        return found

    def _count_below(self, number: int) -> int:
        return sum(1 for where in self._where.values() if where < number)

    def send(self, count: int) -> None:
        """Mines a block with new payments, and some that were lost."""
        number = self.tree.head.number + 1
        lost = [one for one in range(max(0, self.sent - 60), self.sent) if one not in self._where]
        payments = list(range(self.sent, self.sent + count)) + [one for one in lost if self.chance.random() < 0.3]
        self.sent += count
        self._put(number, payments)

    def _put(self, number: int, payments: list[int]) -> None:
        self.chance.shuffle(payments)
        self.tree.mine(self.body(payments, self._count_below(number)))
        self._where |= dict.fromkeys(payments, number)

    def reorg(self, depth: int) -> None:
        """Takes blocks back and makes one more of others, which bring most of the payments back, elsewhere."""
        first = self.tree.head.number - depth + 1
        gone = [one for one, where in self._where.items() if where >= first]
        for one in gone:
            del self._where[one]
        places: dict[int, list[int]] = {number: [] for number in range(depth + 1)}
        for one in gone:
            if self.chance.random() < 0.85:
                places[self.chance.randrange(depth + 1)].append(one)
                self.counts["cameBack"] += 1
            else:
                self.counts["lost"] += 1
        assert self.tree.head.number >= first
        self.tree.cut(depth)
        for place, payments in places.items():
            self._put(first + place, payments)
        self.counts["reorgs"] += 1


Event = tuple[str, int, int]


def on_chain(tree: Tree, on_top: int = 0) -> Counter[Event]:
    """Transaction, number and amount of each event in blocks with so many others on top."""
    last = tree.head.number - on_top
    return paid_in(log for log in tree.logs() if int(log["blockNumber"], 16) <= last)


def nfts_on_chain(tree: Tree, on_top: int = 0) -> Counter[Event]:
    """Transaction, token and recipient of each transfer of an NFT in blocks with so many others on top."""
    found: Counter[Event] = Counter()
    for log in tree.logs():
        if log["address"] == COLLECTION and int(log["blockNumber"], 16) <= tree.head.number - on_top:
            found[log["transactionHash"], int(log["topics"][3], 16), int(log["topics"][2], 16)] += 1
    return found


def calls_on_chain(tree: Tree, on_top: int = 0) -> Counter[Event]:
    """Hash and nonce of each transaction that has a sender, in blocks with so many others on top."""
    blocks = (tree.at(number) for number in range(tree.head.number - on_top + 1))
    return Counter((sent.hash, sent.nonce, 0) for block in blocks for sent in block.body if sent.has_receipt)


def paid_in(logs: Iterable[Mapping[str, Any]]) -> Counter[Event]:
    """Transaction, number and amount of each payment in logs."""
    found: Counter[Event] = Counter()
    for log in logs:
        if log["topics"] == list(paid(0).topics):
            found[log["transactionHash"], int(log["data"][2:66], 16), int(log["data"][66:], 16)] += 1
    return found


def event_of(body: Mapping[str, Any]) -> Event:
    """What a run was told, as `on_chain`, `nfts_on_chain` or `calls_on_chain` have it."""
    if "tokenId" in body:
        return body["transactionHash"], int(body["tokenId"]), int(body["recipient"], 16)
    if "number" not in body.get("args", {}):
        return body["transactionHash"], int(body["nonce"]), 0
    return body["transactionHash"], int(body["args"]["number"]), int(body["args"]["amount"])


def told(bodies: Iterable[Mapping[str, Any]]) -> Counter[Event]:
    """What runs were told, less what they were told to take back."""
    found: Counter[Event] = Counter()
    for body in bodies:
        found[event_of(body)] += -1 if body["reorg"] == "retracted" else 1
    return Counter({event: count for event, count in found.items() if count})


def numbers(events: Mapping[Event, int]) -> Counter[tuple[str, int]]:
    """Events without their amounts."""
    found: Counter[tuple[str, int]] = Counter()
    for (hash, number, _), count in events.items():
        found[hash, number] += count
    return found
