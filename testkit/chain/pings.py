"""A chain that reorganises itself: transactions with two events each, of senders that depend on no other."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from eth_account import Account

from testkit.chain.anvil import CHAIN_ID, Anvil

WORDS: Final = ("--no-mining", "--base-fee", "0", "--gas-price", "0", "--slots-in-an-epoch", "1")
"""The options of a node for pings: blocks come when they are asked for, and gas costs nothing."""
CONTRACT: Final = "0x00000000000000000000000000000000000F1465"
SIGNATURE: Final = "event Ping(uint256 number)"
_TOPIC: Final = "48257dc961b6f792c2b78a080dacfed693b660960a702de21cee364e20270e2f"
_EMIT: Final = f"7f{_TOPIC}60206000a1"
_CODE: Final = f"0x600035600052{_EMIT}600160005101600052{_EMIT}00"


def number_of(ping: int) -> int:
    """The number of a ping's first event; its second event has the next one."""
    return 2 * ping


@dataclass(slots=True)
class Pings:
    """Sends pings to a node, and takes blocks back."""

    node: Anvil
    chance: random.Random
    sent: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    _mined: list[tuple[int, str]] = field(default_factory=list)

    def install(self) -> None:
        """Puts the contract in its place."""
        self.node.rpc("anvil_setCode", CONTRACT, _CODE)
        self.node.mine()

    @property
    def head(self) -> int:
        """The height of the chain."""
        return int(self.node.rpc("eth_blockNumber"), 16)

    def sign(self, ping: int, variant: int = 0) -> str:
        """A ping's signed transaction; another variant has the same nonce and other events."""
        key = (1_000_000 + ping).to_bytes(32, "big")
        number = number_of(ping) + variant * 1_000_000_000
        fields = {
            "chainId": CHAIN_ID,
            "nonce": 0,
            "to": CONTRACT,
            "value": 0,
            "gas": 60_000,
            "gasPrice": 0,
            "data": f"0x{number:064x}",
        }
        return str(Account.sign_transaction(fields, key).raw_transaction.to_0x_hex())

    def send(self, count: int = 1) -> None:
        """Sends pings, and makes a block of them."""
        sent = {}
        for _ in range(count):
            raw = self.sign(self.sent)
            sent[str(self.node.rpc("eth_sendRawTransaction", raw))] = raw
            self.sent += 1
        self.node.mine()
        for hashed, raw in sent.items():
            self._mined.append((self._number_of(hashed), raw))

    def _number_of(self, hashed: str) -> int:
        """The block of a transaction. A busy node may take it into its pool after the block that was asked for. It
        certainly has both events there: a test that waits for what the chain says must not wait for nothing."""
        while (receipt := self.node.rpc("eth_getTransactionReceipt", hashed)) is None:
            time.sleep(0.01)
            self.node.mine()
        asked = {"blockHash": receipt["blockHash"], "address": CONTRACT}
        logs = [log for log in self.node.rpc("eth_getLogs", asked) if log["transactionHash"] == hashed]
        number = int(receipt["blockNumber"], 16)
        assert (len(logs), number <= self.head) == (2, True), f"a ping without its events: {receipt}, {logs}"
        return number

    def reorg(self, depth: int) -> None:
        """Takes blocks back and makes as many others: of their transactions some come back in the same or another
        block, some are replaced by others of the same nonce, and some are lost."""
        depth = min(depth, self.head - 1)
        first = self.head - depth + 1
        gone = [(number, raw) for number, raw in self._mined if number >= first]
        self._mined = [one for one in self._mined if one[0] < first]
        pairs: list[list[Any]] = []
        for _, raw in gone:
            dice, place = self.chance.random(), self.chance.randrange(depth)
            if dice < 0.6:
                pairs.append([raw, place])
                self._mined.append((first + place, raw))
                self.counts["cameBack"] += 1
            elif dice < 0.8:
                other = self._other(raw)
                pairs.append([other, place])
                self._mined.append((first + place, other))
                self.counts["replaced"] += 1
            else:
                self.counts["lost"] += 1
        self.node.rpc("anvil_reorg", depth, pairs)
        self.counts["reorgs"] += 1

    def replace(self, depth: int, transactions: Sequence[tuple[str, int]]) -> None:
        """Replaces the newest blocks; each transaction comes in the block at a place from the first of them."""
        self.node.rpc("anvil_reorg", depth, [list(pair) for pair in transactions])

    def _other(self, raw: str) -> str:
        sender = Account.recover_transaction(raw)
        for ping in range(self.sent):
            if self._senders(ping) == sender:
                return self.sign(ping, self.chance.randint(1, 9))
        raise AssertionError("a ping of nobody")

    def _senders(self, ping: int) -> str:
        return str(Account.from_key((1_000_000 + ping).to_bytes(32, "big")).address)

    def final(self, on_top: int = 0) -> dict[tuple[str, int], int]:
        """What the chain says, in blocks with so many others on top: the number of each event by its transaction and
        position in it."""
        asked = {"fromBlock": "0x0", "toBlock": hex(max(0, self.head - on_top)), "address": CONTRACT}
        found: dict[tuple[str, int], int] = {}
        for log in self.node.rpc("eth_getLogs", asked):
            position = sum(hash == log["transactionHash"] for hash, _ in found)
            found[log["transactionHash"], position] = int(log["data"], 16)
        return found
