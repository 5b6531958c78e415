"""A JSON-RPC node over a block tree of its own that lags, forgets, refuses and reorganises itself, as endpoints do.

Several faces (endpoints) may serve one tree, each with a head of its own. A face knows the blocks on the branch of its
head; of the rest it may know less: its log index may be late, receipts may be missing, a query may be refused. Blocks
are consistent: hash, parent, `logsBloom` and receipts belong together, so a caller who compares them finds out.
"""

from __future__ import annotations

import asyncio
import functools
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web

from dustrun.core.values.addresses import keccak256
from testkit.listening import listening

_GENESIS_S: Final = 1_700_000_000
_ZERO: Final = "0x" + "00" * 32
_UNKNOWN: Final = {"code": -32000, "message": "unknown block"}
CONTRACT: Final = "0x" + "c0ffee" * 6 + "c0de"
COLLECTION: Final = "0x" + "c0ffee" * 6 + "ca7e"
FUNCTION: Final = "pay(uint256 payment)"
SIGNATURE: Final = "event Paid(uint256 number, uint256 amount)"
_TOPIC: Final = "0x" + keccak256(b"Paid(uint256,uint256)").hex()


def _hash(*parts: object) -> str:
    return "0x" + keccak256(json.dumps(parts).encode()).hex()


@dataclass(frozen=True, slots=True)
class Log:
    """What a contract says in a transaction; topics and data are 0x-hex."""

    address: str
    topics: tuple[str, ...]
    data: str = "0x"


def paid(number: int, amount: int = 0, contract: str = CONTRACT) -> Log:
    """A log of `SIGNATURE`."""
    return Log(contract, (_TOPIC,), f"0x{number:064x}{amount:064x}")


def moved_nft(token_id: int, recipient: str) -> Log:
    """The log of an ERC-721 token of `COLLECTION` that was minted."""
    topic = "0x" + keccak256(b"Transfer(address,address,uint256)").hex()
    return Log(COLLECTION, (topic, _ZERO, f"0x{'0' * 24}{recipient[2:]}", f"0x{token_id:064x}"))


@dataclass(frozen=True, slots=True)
class Included:
    """A transaction as one block has it: in another block the same hash may have other logs. It calls `FUNCTION` of
    `CONTRACT` with its nonce. `has_receipt` False: as the transactions with which some chains bring state from another
    one: they have logs, are in no bloom, and go from nobody to nobody."""

    hash: str
    logs: tuple[Log, ...]
    has_receipt: bool = True
    nonce: int = 0

    def public(self) -> dict[str, Any]:
        """As a block shows it in full."""
        nobody = "0x" + "00" * 20
        called = f"0x{keccak256(b'pay(uint256)')[:4].hex()}{self.nonce:064x}"
        return {
            "hash": self.hash,
            "from": f"0x{self.hash[-40:].zfill(40)}" if self.has_receipt else nobody,
            "to": CONTRACT if self.has_receipt else nobody,
            "value": "0x0",
            "nonce": hex(self.nonce),
            "input": called if self.has_receipt else "0x",
        }


@dataclass(frozen=True, slots=True)
class Block:
    """One block of the tree."""

    number: int
    parent: str
    time: int
    body: tuple[Included, ...]
    hash: str
    bloom: str

    def logs(self) -> list[dict[str, Any]]:
        """Its logs as `eth_getLogs` shows them."""
        found: list[dict[str, Any]] = []
        for place, sent in enumerate(self.body):
            for log in sent.logs:
                found.append(
                    {
                        "address": log.address,
                        "topics": list(log.topics),
                        "data": log.data,
                        "blockNumber": hex(self.number),
                        "blockHash": self.hash,
                        "transactionHash": sent.hash,
                        "transactionIndex": hex(place),
                        "logIndex": hex(len(found)),
                        "removed": False,
                    }
                )
        return found

    def public(self, is_full: bool = False) -> dict[str, Any]:
        """As `eth_getBlockByNumber` shows it."""
        return {
            "number": hex(self.number),
            "hash": self.hash,
            "parentHash": self.parent,
            "timestamp": hex(self.time),
            "logsBloom": self.bloom,
            "receiptsRoot": _hash(self.logs()),
            "transactions": [sent.public() if is_full else sent.hash for sent in self.body],
            "baseFeePerGas": "0x1",
            "gasLimit": hex(30_000_000),
            "gasUsed": "0x0",
        }


def bloom_of(logs: Sequence[Log], noise: int = 0) -> str:
    """The bloom of logs, by the yellow paper; `noise`: of so many items that nobody asks for."""
    items = [bytes.fromhex(text[2:]) for log in logs for text in (log.address, *log.topics)]
    return f"0x{_bits_of(items) | _bits_of_noise(noise):0512x}"


@functools.cache
def _bits_of_noise(count: int) -> int:
    return _bits_of(f"noise {number}".encode() for number in range(count))


def _bits_of(items: Iterable[bytes]) -> int:
    bits = 0
    for item in items:
        digest = keccak256(item)
        for place in (0, 2, 4):
            bits |= 1 << (int.from_bytes(digest[place : place + 2]) & 2047)
    return bits


class Tree:
    """All blocks that were ever made; `head` is the newest of the canonical branch. `noise` as `bloom_of` has it;
    without `has_blooms`, all are zero."""

    def __init__(self, noise: int = 0, has_blooms: bool = True) -> None:
        self.noise = noise
        self.has_blooms = has_blooms
        self._made = 0
        self.by_hash: dict[str, Block] = {}
        self._branch: list[str] = []
        self._blocks_of: dict[str, list[str]] = {}
        self._branches: dict[str, list[str]] = {}
        self._grow(())

    @property
    def head(self) -> Block:
        """The newest canonical block."""
        return self.by_hash[self._branch[-1]]

    def at(self, number: int) -> Block:
        """A canonical block."""
        return self.by_hash[self._branch[number]]

    def _grow(self, body: Sequence[Included]) -> Block:
        self._made += 1
        number, parent = len(self._branch), self._branch[-1] if self._branch else _ZERO
        announced = [log for sent in body if sent.has_receipt and self.has_blooms for log in sent.logs]
        bloom = bloom_of(announced, self.noise)
        hash = _hash(self._made, number, parent, [(sent.hash, [log.data for log in sent.logs]) for sent in body])
        block = Block(number, parent, _GENESIS_S + number, tuple(body), hash, bloom)
        self.by_hash[hash] = block
        self._branch.append(hash)
        for sent in body:
            self._blocks_of.setdefault(sent.hash, []).append(hash)
        return block

    def mine(self, *bodies: Sequence[Included]) -> Block:
        """Adds a block for each body, or an empty one; the newest."""
        for body in bodies or ((),):
            self._grow(body)
        return self.head

    def reorg(self, depth: int, bodies: Sequence[Sequence[Included]]) -> None:
        """Takes the newest blocks back and puts these in their place."""
        self.cut(depth)
        self.mine(*bodies)

    def cut(self, depth: int) -> None:
        """Takes the newest blocks off the canonical branch; they stay known."""
        assert 0 < depth < len(self._branch)
        del self._branch[-depth:]

    def branch_to(self, hash: str) -> list[str]:
        """The hashes from the first block to this one."""
        if self._branch[-1] == hash:
            return self._branch
        if hash not in self._branches:
            found: list[str] = []
            at = hash
            while at != _ZERO:
                found.append(at)
                at = self.by_hash[at].parent
            self._branches = {hash: found[::-1]}  # one at a time: faces freeze seldom
        return self._branches[hash]

    def blocks_of(self, transaction: str) -> list[Block]:
        """The blocks that a transaction is in, of all branches, newest first."""
        return [self.by_hash[hash] for hash in reversed(self._blocks_of.get(transaction, []))]

    def logs(self) -> list[dict[str, Any]]:
        """The logs of the canonical branch, oldest first."""
        return [log for hash in self._branch if self.by_hash[hash].body for log in self.by_hash[hash].logs()]


def _nothing(_method: str, _params: list[Any]) -> None:
    return None


@dataclass(eq=False)
class Face:
    """One endpoint. `lag`: blocks that its head is behind; `frozen`: the hash of the block that it stays at;
    `finalized`: the block that it says is final, instead of the eighth below its head; `index_lag`: the newest blocks
    of which its log index has nothing, and `unindexed` others by number; `no_receipts`: transactions, or all with `*`;
    `refuses`: whether a call is refused, by method and parameters, and `refusal` what it says then; `before` is called
    ahead of each call, also within a batch; `slow_s`: how long each exchange takes; `together`: so many reads of logs
    must wait before the first of them is answered; `strange`: number and address of logs that reads of ranges show in a
    block that nobody knows."""

    tree: Tree
    chain_id: int = 31337
    lag: int = 0
    frozen: str | None = None
    finalized: int | None = None
    index_lag: int = 0
    unindexed: set[int] = field(default_factory=set)
    no_receipts: set[str] = field(default_factory=set)
    strange: set[tuple[int, str]] = field(default_factory=set)
    refuses: Callable[[str, list[Any]], bool] = lambda _method, _params: False
    refusal: str = "query cannot be answered"
    before: Callable[[str, list[Any]], None] = _nothing
    slow_s: float = 0.0
    together: int = 0
    is_down: bool = False
    genesis: str | None = None
    counts: Counter[str] = field(default_factory=Counter)
    exchanges: int = 0
    url: str = ""
    _waiting: int = 0
    _enough: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One HTTP request."""
        self.exchanges += 1
        if self.slow_s:
            await asyncio.sleep(self.slow_s)
        if self.is_down:
            return web.Response(status=503)
        asked = json.loads(await request.read())
        calls = asked if isinstance(asked, list) else [asked]
        if self.together and any(one["method"] == "eth_getLogs" for one in calls):
            await self._wait_for_others()
        answers = [self._answer(one) for one in calls]
        return web.json_response(answers if isinstance(asked, list) else answers[0])

    @property
    def is_waiting(self) -> bool:
        """Whether a read of logs waits for others."""
        return self._waiting > 0

    async def _wait_for_others(self) -> None:
        self._waiting += 1
        if self._waiting >= self.together:
            self._enough.set()
        await self._enough.wait()

    def _answer(self, call: Mapping[str, Any]) -> dict[str, Any]:
        method, params = call["method"], list(call.get("params", ()))
        self.counts[method] += 1
        self.before(method, params)
        found: dict[str, Any] = {"jsonrpc": "2.0", "id": call["id"]}
        if self.refuses(method, params):
            return {**found, "error": {"code": -32000, "message": self.refusal}}
        answer = getattr(self, f"_{method}", None)
        if answer is None:
            return {**found, "error": {"code": -32601, "message": "method not found"}}
        result = answer(*params)
        return {**found, "error": result} if result is _UNKNOWN else {**found, "result": result}

    @property
    def _known(self) -> list[str]:
        branch = self.tree.branch_to(self.frozen) if self.frozen is not None else self.tree._branch
        return branch[: max(1, len(branch) - self.lag)] if self.lag else branch

    def _block(self, hash: str) -> Block | None:
        found, known = self.tree.by_hash.get(hash), self._known
        return found if found is not None and found.number < len(known) and known[found.number] == hash else None

    def _indexed(self, block: Block) -> list[dict[str, Any]]:
        is_late = block.number > len(self._known) - 1 - self.index_lag or block.number in self.unindexed
        return [] if is_late else block.logs()

    def _eth_chainId(self) -> str:
        return hex(self.chain_id)

    def _eth_blockNumber(self) -> str:
        return hex(len(self._known) - 1)

    def _eth_getCode(self, _address: str, _block: str) -> str:
        return "0x00"

    def _eth_getBlockByNumber(self, number: str, _full: bool) -> dict[str, Any] | None:
        known = self._known
        final = max(0, len(known) - 9) if self.finalized is None else self.finalized
        place = {"latest": len(known) - 1, "finalized": final}.get(number)
        place = int(number, 16) if place is None else place
        if place >= len(known):
            return None
        shown = self.tree.by_hash[known[place]].public()
        return {**shown, "hash": self.genesis} if place == 0 and self.genesis is not None else shown

    def _eth_getBlockByHash(self, hash: str, is_full: bool) -> dict[str, Any] | None:
        block = self._block(hash)
        return None if block is None else block.public(is_full)

    def _eth_getLogs(self, asked: Mapping[str, Any]) -> Any:
        if "blockHash" in asked:
            block = self._block(asked["blockHash"])
            if block is None:
                return _UNKNOWN
            return [log for log in self._indexed(block) if _wants(asked, log)]
        first, last = int(asked["fromBlock"], 16), int(asked["toBlock"], 16)
        blocks = [self.tree.by_hash[hash] for hash in self._known[first : last + 1]]
        found = [log for block in blocks if block.body for log in self._indexed(block) if _wants(asked, log)]
        gone = {(hex(number), address) for number, address in self.strange}
        return [{**one, "blockHash": _ZERO} if (one["blockNumber"], one["address"]) in gone else one for one in found]

    def _receipts(self, block: Block) -> list[dict[str, Any]]:
        logs = block.logs()
        return [
            {
                "transactionHash": sent.hash,
                "transactionIndex": hex(place),
                "blockHash": block.hash,
                "blockNumber": hex(block.number),
                "status": "0x1",
                "gasUsed": "0x5208",
                "logs": [log for log in logs if log["transactionHash"] == sent.hash],
            }
            for place, sent in enumerate(block.body)
            if sent.has_receipt and not {"*", sent.hash} & self.no_receipts
        ]

    def _eth_getTransactionReceipt(self, hash: str) -> dict[str, Any] | None:
        known = self._known
        for block in self.tree.blocks_of(hash):
            if block.number < len(known) and known[block.number] == block.hash:
                return next((one for one in self._receipts(block) if one["transactionHash"] == hash), None)
        return None

    def _eth_getBlockReceipts(self, name: str) -> Any:
        block = self._block(name)
        if block is None or len(self._receipts(block)) < sum(sent.has_receipt for sent in block.body):
            return None
        return self._receipts(block)


def _wants(asked: Mapping[str, Any], log: Mapping[str, Any]) -> bool:
    addresses = asked.get("address")
    if addresses and log["address"].lower() not in ([addresses] if isinstance(addresses, str) else addresses):
        return False
    topics = asked.get("topics") or []
    return all(
        wanted is None or (place < len(log["topics"]) and log["topics"][place] in wanted)
        for place, wanted in enumerate(topics)
    )


@asynccontextmanager
async def serving(*faces: Face) -> AsyncIterator[list[str]]:
    """Serves faces on 127.0.0.1 until the end; their URLs."""
    async with AsyncExitStack() as stack:
        for face in faces:
            app = web.Application(client_max_size=2**26)
            app.router.add_post("/", face.handle)
            face.url = await stack.enter_async_context(
                listening(web.AppRunner(app, access_log=None, shutdown_timeout=0.1))
            )
        yield [face.url for face in faces]
