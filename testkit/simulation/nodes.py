"""Endpoints of the simulated chain, each with a face of its own: behind, without receipts, forgetful, rude."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from dustrun.chain.rpc import EndpointDown, exchanged_by
from testkit.simulation.chain import GAS, GWEI, Block, Chain, Rejected, Sent
from testkit.simulation.flows import CHAIN_ID
from testkit.simulation.loop import OUTSIDE
from testkit.simulation.network import Host, Network, Request
from testkit.simulation.tokens import contracts

_BLOOM: Final = "0x" + "00" * 256
_ZERO_HASH: Final = "0x" + "00" * 32


class _Refused(Exception):
    """A JSON-RPC error: code and message."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(slots=True)
class Node:
    """One endpoint. `lag`: blocks that it is behind; of a thousand calls `busy` are refused; of a thousand accepted
    transactions `lies` are answered with an error all the same; of a thousand asked receipts `hides` are not there."""

    chain: Chain
    chance: random.Random
    lag: int = 0
    busy: int = 0
    lies: int = 0
    hides: int = 0
    say: Callable[[str], None] = field(default=lambda _what: None)

    def answer(self, request: Request) -> tuple[int, bytes]:
        """One HTTP request: a call, or a batch of them."""
        return 200, orjson.dumps(self.document(orjson.loads(request.body)))

    def document(self, asked: Any) -> Any:
        """One call, or a batch of them."""
        return [self.call(one) for one in asked] if isinstance(asked, list) else self.call(asked)

    def call(self, asked: dict[str, Any]) -> dict[str, Any]:
        """One JSON-RPC call."""
        reply = {"jsonrpc": "2.0", "id": asked["id"]}
        try:
            return reply | {"result": self._result(asked["method"], list(asked.get("params", ())))}
        except (_Refused, Rejected) as error:
            code = error.code if isinstance(error, _Refused) else -32000
            return reply | {"error": {"code": code, "message": str(error)}}

    def _result(self, method: str, params: list[Any]) -> Any:
        if self._is_drawn(self.busy, "busy"):
            raise _Refused(-32603, "internal error")
        answer = getattr(self, f"_{method}", None)
        if answer is None:
            raise _Refused(-32601, f"the method {method} does not exist/is not available")
        return answer(*params)

    def _is_drawn(self, share: int, name: str) -> bool:
        drawn = self.chance.randrange(1000) < share
        if drawn:
            self.chain.counts[f"node: {name}"] += 1
            self.say(f"a node answers wrongly: {name}")
        return drawn

    # --- which block is meant ---
    @property
    def _newest(self) -> int:
        """The height of the newest block that it knows."""
        self.chain.catch_up()
        return len(self.chain.branch) - self.lag - 1

    @property
    def _head(self) -> Block:
        return self.chain.branch[self._newest]

    def _at(self, tag: Any) -> Block | None:
        newest, branch = self._newest, self.chain.branch
        if isinstance(tag, dict):
            return self._of_hash(tag["blockHash"])
        if tag in ("latest", "pending"):
            return branch[newest]
        if tag in ("safe", "finalized"):
            return branch[max(0, newest - 8)]
        number = int(tag, 16)
        return branch[number] if number <= newest else None

    def _state(self, tag: Any) -> Block:
        block = self._at(tag)
        if block is None:
            raise _Refused(-32000, "header not found")
        return block

    def _of_hash(self, hash: str) -> Block | None:
        block, newest = self.chain.by_hash.get(hash), self._newest
        is_known = block is not None and block.number <= newest and self.chain.branch[block.number].hash == hash
        return block if is_known else None

    # --- answers ---
    def _eth_chainId(self) -> str:
        return hex(CHAIN_ID)

    def _eth_blockNumber(self) -> str:
        return hex(self._head.number)

    def _eth_getBlockByNumber(self, tag: str, _full: bool) -> Any:
        block = self._at(tag)
        return None if block is None else _block(block)

    def _eth_getBlockByHash(self, hash: str, full: bool) -> Any:
        block = self._of_hash(hash)
        if block is None:
            return None
        whole = {"transactions": [_transaction(sent, block, place) for place, sent in enumerate(block.body)]}
        return _block(block) | (whole if full else {})

    def _eth_getBalance(self, address: str, tag: Any) -> str:
        return hex(self._state(tag).balances.get(address.lower(), 0))

    def _eth_getTransactionCount(self, address: str, tag: Any) -> str:
        if tag == "pending" and not self.lag:
            return hex(self.chain.pending_nonce(address.lower()))
        return hex(self._state(tag).nonces.get(address.lower(), 0))

    def _eth_getCode(self, _address: str, _tag: Any) -> str:
        return "0x"

    def _eth_getStorageAt(self, _address: str, _slot: str, _tag: Any) -> str:
        return _ZERO_HASH

    def _eth_call(self, fields: dict[str, str], tag: Any, overrides: Any = None) -> str:
        state, data = self._state(tag), bytes.fromhex(fields.get("data", "0x")[2:])
        if overrides:
            return "0x" + contracts.probe(state, data, lambda _target, _data: b"").hex()
        return "0x"

    def _eth_gasPrice(self) -> str:
        return hex(self._head.base_fee + GWEI)

    def _eth_estimateGas(self, fields: dict[str, str], *_more: Any) -> str:
        if self._state("latest").balances.get(fields["from"].lower(), 0) < int(fields.get("value", "0x0"), 16):
            raise _Refused(-32000, "insufficient funds for transfer")
        return hex(GAS)

    def _eth_feeHistory(self, count: str, _newest: str, _percentiles: list[int]) -> Any:
        head = self._head
        fees = [hex(head.base_fee)] * (int(count, 16) + 1)
        return {"oldestBlock": hex(max(0, head.number - 4)), "baseFeePerGas": fees, "reward": [[hex(GWEI)]] * 5}

    def _eth_sendRawTransaction(self, raw: str) -> str:
        hash = self.chain.send(bytes.fromhex(raw[2:]))
        if self._is_drawn(self.lies, "refuses what it has accepted"):
            raise _Refused(-32000, self.chance.choice(("internal error", "transaction underpriced", "already known")))
        return hash

    def _eth_getTransactionByHash(self, hash: str) -> Any:
        found, sent = self._place(hash), self.chain.seen.get(hash)
        if sent is None or (found is None and hash not in self.chain.pool):
            return None
        return _transaction(sent, *(found or (None, 0)))

    def _place(self, hash: str) -> tuple[Block, int] | None:
        found = self.chain.place_of(hash)
        return found if found is not None and found[0].number <= self._newest else None

    def _eth_getTransactionReceipt(self, hash: str) -> Any:
        found = self._place(hash)
        if found is None or self._is_drawn(self.hides, "hides a receipt"):
            return None
        return _receipt(*found)

    def _eth_getBlockReceipts(self, tag: str) -> Any:
        block = self._of_hash(tag) if len(tag) == 66 else self._at(tag)
        return None if block is None else [_receipt(block, place) for place in range(len(block.body))]

    def _eth_getLogs(self, _asked: Any) -> Any:
        return []


@contextlib.contextmanager
def past_http(network: Network, nodes: Mapping[str, tuple[Node, Host]]) -> Iterator[None]:
    """Context manager: what the server asks these nodes goes past its HTTP client, which costs a third of the time;
    what can happen on the way is the same."""

    async def exchange(name: str, document: Any, limit_s: float) -> Any:
        answer = network.loop.create_future()
        late = network.loop.call_later(
            limit_s, _tell, answer, EndpointDown(f"no answer within {limit_s:g} s", sent=True)
        )
        _send(network, *nodes[name], document, answer)
        try:
            return await answer
        finally:
            late.cancel()

    with exchanged_by(exchange):
        yield


def _send(network: Network, node: Node, host: Host, document: Any, answer: Any) -> None:
    """One exchange, whose way the server's death does not end."""
    loop, fate, life = network.loop, network.fate(host), network.loop.life()

    def later(step: Callable[[], Any]) -> None:
        loop.call_later(network.way_s(host), step, context=OUTSIDE)

    def tell(found: Any) -> None:
        if loop.is_alive(life):
            _tell(answer, found)

    def arrive() -> None:
        loop.point(host.name, life=life)
        if fate == "lost":
            tell(EndpointDown("the connection broke", sent=True))
        elif fate != "silent":
            found = node.document(document)
            if fate == "twice":
                node.document(document)
            loop.point(host.name, life=life)
            later(lambda: tell(EndpointDown("the connection broke", sent=True) if fate in ("reset", "cut") else found))

    if fate == "refused":
        later(lambda: tell(EndpointDown("no connection", sent=False)))
    else:
        later(arrive)


def _tell(answer: Any, found: Any) -> None:
    if not answer.done():
        (answer.set_exception if isinstance(found, Exception) else answer.set_result)(found)


def _block(block: Block) -> dict[str, Any]:
    return {
        "number": hex(block.number),
        "hash": block.hash,
        "parentHash": block.parent,
        "timestamp": hex(block.time),
        "logsBloom": _BLOOM,
        "transactions": [sent.hash for sent in block.body],
        "baseFeePerGas": hex(block.base_fee),
        "gasLimit": hex(30_000_000),
        "gasUsed": hex(GAS * len(block.body)),
    }


def _transaction(sent: Sent, block: Block | None, index: int) -> dict[str, Any]:
    fields = {"hash": sent.hash, "from": sent.sender, "to": sent.to, "value": hex(sent.value), "nonce": hex(sent.nonce)}
    place: dict[str, Any] = {"blockNumber": None, "blockHash": None, "transactionIndex": None}
    if block is not None:
        place = {"blockNumber": hex(block.number), "blockHash": block.hash, "transactionIndex": hex(index)}
    more = {"maxFeePerGas": hex(sent.max_fee), "maxPriorityFeePerGas": hex(sent.tip), "gasPrice": hex(sent.max_fee)}
    return fields | place | more | {"input": "0x", "gas": hex(sent.gas), "type": "0x2", "chainId": hex(CHAIN_ID)}


def _receipt(block: Block, place: int) -> dict[str, Any]:
    sent: Sent = block.body[place]
    return {
        "transactionHash": sent.hash,
        "transactionIndex": hex(place),
        "blockHash": block.hash,
        "blockNumber": hex(block.number),
        "from": sent.sender,
        "to": sent.to,
        "status": "0x1",
        "gasUsed": hex(GAS),
        "cumulativeGasUsed": hex(GAS * (place + 1)),
        "effectiveGasPrice": hex(block.price(sent)),
        "contractAddress": None,
        "logs": [],
        "logsBloom": _BLOOM,
        "type": "0x2",
    }
