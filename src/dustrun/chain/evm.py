"""A live EVM chain: reads for actions and the outbox, and broadcasts."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Literal

from dustrun import clock
from dustrun.chain import fees, wire
from dustrun.chain.endpoints import Endpoints
from dustrun.chain.failures import Kind, kind_of, reverted, to_error
from dustrun.chain.rpc import EndpointDown, RpcError, RpcRequest
from dustrun.core.evm.abi import AbiFault
from dustrun.core.evm.abi_signatures import parse_function
from dustrun.core.evm.network import Network
from dustrun.core.money.intent import Log, Receipt
from dustrun.core.values.addresses import address_of_word, keccak256
from dustrun.errors import Code, Permanent, Temporary
from dustrun.records import dataclass
from dustrun.sdk.chain import Block, CallResult, ChainCall, ChainTransaction, Fees

# Gas estimation through a chain's endpoints.


async def estimate(
    endpoints: Endpoints,
    network: Network,
    head: Callable[[], Awaitable[Block]],
    fields: Mapping[str, str],
    errors: Sequence[Mapping[str, Any]] = (),
) -> int:
    """The gas estimate for this block or the next, whichever is higher: what a contract does once per block or second
    is cheap within the block that did it. Raises `Permanent` with the decoded reason if the transaction would revert,
    `Invalid` if the sender lacks the value.
    """
    try:
        if fields["data"] == "0x":
            return wire.quantity(await endpoints.call("eth_estimateGas", fields))
        now, newest = await asyncio.gather(endpoints.call("eth_estimateGas", fields), head())
        return max(wire.quantity(now), await _estimate_after(endpoints, network, newest, fields))
    except RpcError as error:
        raise to_error(error, "The transaction", errors) from None


async def _estimate_after(endpoints: Endpoints, network: Network, head: Block, fields: Mapping[str, str]) -> int:
    """The estimate for the next block; 0 if the endpoint does not support block overrides."""
    later_s = max(1, network.block_time_ms // 1000)
    ahead = {"number": hex(head.number + 1), "time": hex(head.time + later_s)}
    try:
        return wire.quantity(await endpoints.call("eth_estimateGas", fields, "latest", {}, ahead))
    except RpcError as error:
        if kind_of(error) in (Kind.OTHER, Kind.NO_METHOD, Kind.NO_STATE):
            return 0
        raise


# Many calls at one block: one Multicall3 call if the chain has it, else a batch.


_LEAST: Final = 3  # fewer are as cheap one by one
_MOST: Final = 100
_AGGREGATE: Final = (
    "aggregate3((address target, bool allowFailure, bytes callData)[] calls) "
    "returns ((bool success, bytes returnData)[] results)"
)


async def call_many(endpoints: Endpoints, network: Network, calls: Sequence[ChainCall]) -> list[CallResult]:
    """The results of calls at one block, in order; a revert fails only its own call."""
    if not calls:
        return []
    is_plain = all(call.sender is None and not call.value_units for call in calls)
    if network.multicall3 is not None and is_plain and _LEAST <= len(calls) <= _MOST:
        found = await _aggregate(endpoints, network.multicall3, calls)
        if found is not None:
            return found
    return await _batch(endpoints, calls)


async def _aggregate(endpoints: Endpoints, contract: str, calls: Sequence[ChainCall]) -> list[CallResult] | None:
    """The results by one Multicall3 call; None if there is no contract or the calls exceed its limits."""
    function = parse_function(_AGGREGATE)
    asked = function.encode([[call.to, True, wire.hexed(call.data)] for call in calls])
    try:
        answer = await endpoints.call("eth_call", wire.call_fields(ChainCall(contract, asked)), "latest")
        results = function.decode_result(wire.data(answer))[0]
    except (RpcError, AbiFault):
        return None
    return [CallResult(is_success, wire.data(data)) for is_success, data in results]


async def _batch(endpoints: Endpoints, calls: Sequence[ChainCall]) -> list[CallResult]:
    """All at the current head's number, so that a new block cannot separate them."""
    try:
        at = await endpoints.call("eth_blockNumber")
        answers = await endpoints.batch([RpcRequest("eth_call", (wire.call_fields(call), at)) for call in calls])
    except RpcError as error:
        raise to_error(error, "A read") from None
    return [_result(answer) for answer in answers]


def _result(answer: object) -> CallResult:
    if not isinstance(answer, RpcError):
        return CallResult(True, wire.data(answer))
    if kind_of(answer) in (Kind.REVERTED, Kind.GAS):
        return CallResult(False, answer.data or b"")
    raise to_error(answer, "A read")


NonceTag = Literal["pending", "latest", "safe", "finalized"]
BroadcastOutcome = Literal[
    "accepted", "known", "nonce-too-low", "underpriced", "funds", "refused", "not-sent", "unknown"
]
_KEPT_TIMES: Final = 256
_NEWEST_HEAD_S: Final = 300
_OLDEST_HEAD_S: Final = 3600
_PROXY_SLOTS: Final = (
    "0x360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbc",  # eip1967.proxy.implementation
    "0x7050c9e0f4ca769c69bd3a8ef740bc37934f8e2c036e5a723fd8ee048ed3f8c3",  # org.zeppelinos.proxy.implementation
    "0xa3f0ad74e5423aebfd80d3ef4346578335a9a72aeaee59ff6cb3582b35133d50",  # eip1967.proxy.beacon
)
_OF_BEACON: Final = bytes.fromhex("5c60da1b")  # implementation()
_REVERT_TRACER: Final = {"tracer": "callTracer", "tracerConfig": {"onlyTopCall": True}}
_OUTCOMES: Final[dict[Kind, BroadcastOutcome]] = {
    Kind.ALREADY_KNOWN: "known",
    Kind.NONCE_TOO_LOW: "nonce-too-low",
    Kind.UNDERPRICED: "underpriced",
    Kind.FUNDS: "funds",
    Kind.BUSY: "unknown",
}


@dataclass(frozen=True, slots=True)
class Broadcast:
    """The result of a broadcast as reported by the endpoint, which proves nothing: only receipts do. `not-sent` is
    certain, `unknown` means that there was no usable answer.
    """

    outcome: BroadcastOutcome
    hash: str
    message: str | None = None


class LiveChain:
    """One chain through its endpoints. All reads raise `Temporary` when none answers."""

    def __init__(self, network: Network, endpoints: Endpoints) -> None:
        self._network = network
        self.endpoints = endpoints
        self._times: OrderedDict[str, int] = OrderedDict()
        self._verifying = asyncio.Lock()
        self._is_verified = False

    @property
    def network(self) -> Network:
        """The definition of the network."""
        return self._network

    async def verify(self, *, afresh: bool = False) -> None:
        """Checks every endpoint's chain id and genesis, raising `Permanent` (`CHAIN_MISMATCH`); then that the head's
        time is current, raising `Temporary`. Must be awaited before anything is signed; with `afresh` endpoints are
        asked now, otherwise every few seconds.
        """
        async with self._verifying:
            await self.endpoints.verify(afresh=afresh)
        if not self.network.is_local:  # development chains may shift their clock, and mine on demand
            _check_time(self.network, (await self.block()).time)

    async def block(self) -> Block:
        """The newest block."""
        return wire.block(await self._read("eth_getBlockByNumber", "latest", False))

    async def block_gas_limit(self) -> int | None:
        """The gas that the newest block has room for; None if the endpoint does not say."""
        limit = (await self._read("eth_getBlockByNumber", "latest", False)).get("gasLimit")
        return None if limit is None else wire.quantity(limit)

    async def find_block(self, at: int | str) -> Block | None:
        """The canonical block of a number (or tag), or any known block of a hash; None when there is none."""
        is_hash = isinstance(at, str) and len(at) == 66
        method = "eth_getBlockByHash" if is_hash else "eth_getBlockByNumber"
        try:
            answer = await self._read(method, hex(at) if isinstance(at, int) else at, False)
        except RpcError as error:
            if kind_of(error) is Kind.NO_STATE:
                return None
            raise to_error(error, "Reading a block") from None
        return None if answer is None else wire.block(answer)

    async def finalized(self) -> Block | None:
        """The newest block that the chain reports as final; None if it reports none."""
        try:
            answer = await self.endpoints.call("eth_getBlockByNumber", "finalized", False)
        except RpcError as error:
            if kind_of(error) is Kind.BUSY:
                raise to_error(error, "Reading the finalized block") from None
            return None
        return None if answer is None else wire.block(answer)

    async def call(self, call: ChainCall, at: str = "latest") -> bytes:
        """The return data of a call at a block (tag, number or hash); raises `Permanent` with the decoded reason when
        it reverts.
        """
        try:
            return wire.data(await self.endpoints.call("eth_call", wire.call_fields(call), _at(at)))
        except RpcError as error:
            raise to_error(error, f"The call of {call.to}") from None

    async def call_many(self, calls: Sequence[ChainCall]) -> list[CallResult]:
        """Many calls at the same block; a revert fails its own call only."""
        return await call_many(self.endpoints, self._network, calls)

    async def balance(self, address: str, at: str = "latest") -> int:
        """Native balance in base units."""
        return wire.quantity(await self._read("eth_getBalance", address, _at(at)))

    async def code(self, address: str) -> bytes:
        """The contract's code; empty for a plain account."""
        return wire.data(await self._read("eth_getCode", address, "latest"))

    async def find_implementation(self, address: str) -> str | None:
        """The contract that carries out the calls of a proxy (EIP-1967, its beacon's, or OpenZeppelin's older slot),
        checksummed; None for any other contract."""
        asked = [RpcRequest("eth_getStorageAt", (address, slot, "latest")) for slot in _PROXY_SLOTS]
        answers = await self.endpoints.batch(asked)
        words = [b"" if isinstance(answer, RpcError) else wire.data(answer) for answer in answers]
        implementation, old, beacon = (address_of_word(word) if any(word[-20:]) else None for word in words)
        if implementation is not None or beacon is None:
            return implementation or old
        try:
            found = await self.call(ChainCall(beacon, _OF_BEACON))
        except Permanent:
            return beacon
        return address_of_word(found) if len(found) == 32 and any(found) else beacon

    async def nonce(self, address: str, tag: NonceTag = "pending") -> int:
        """The transaction count of an address at a tag; `pending` includes transactions in the mempool."""
        return wire.quantity(await self._read("eth_getTransactionCount", address, tag))

    async def nonce_at(self, address: str, number: int) -> int:
        """The transaction count of an address at a block height."""
        return wire.quantity(await self._read("eth_getTransactionCount", address, hex(number)))

    async def fees(self) -> Fees:
        """Current fees to bid: the median of up to three endpoints, of two the lower, so that no single endpoint can
        inflate a fee.
        """
        asked = fees.GAS_PRICE if self._network.fee_model == "legacy" else fees.HISTORY
        if len(self.endpoints.all) > 1:
            bids = [bid for one in await fees.ask_several(self.endpoints, asked) if (bid := self._find_bid(one))]
            if bids:
                return sorted(bids, key=lambda bid: bid.max_fee_units)[(len(bids) - 1) // 2]
        return self._bid(await self._read(asked.method, *asked.params))

    def _bid(self, answer: Any) -> Fees:
        if self._network.fee_model == "legacy":
            return fees.legacy(answer)
        try:
            return fees.from_history(answer)
        except (KeyError, IndexError, TypeError):
            raise wire.malformed("a history of fees") from None

    def _find_bid(self, answer: Any) -> Fees | None:
        try:
            return self._bid(answer)
        except Temporary:
            return None

    async def data_fee(self, to: str | None, data: bytes) -> int:
        """The L2's data fee of a transaction, in base units; 0 on other chains. Arbitrum's is gas, which `estimate_gas`
        includes.
        """
        if self._network.data_fee != "op-stack":
            return 0
        asked = fees.data_fee_call(self._network, to, data)
        assert asked is not None
        return fees.read_data_fee(self._network, await self.call(ChainCall(*asked)))

    async def estimate_gas(
        self,
        sender: str,
        to: str | None,
        value_units: int,
        data: bytes,
        errors: Sequence[Mapping[str, Any]] = (),
        gas_limit: int | None = None,
    ) -> int:
        """The gas estimate; see `gas.estimate`. `gas_limit` caps it (nodes may ignore one below 21,000)."""
        fields = {"from": sender, "value": hex(value_units), "data": wire.hexed(data)}
        if to is not None:
            fields["to"] = to
        if gas_limit is not None:
            fields["gas"] = hex(gas_limit)
        return await estimate(self.endpoints, self._network, self.block, fields, errors)

    async def broadcast(self, raw: bytes) -> Broadcast:
        """Sends signed bytes once. Never raises: an endpoint's answer does not prove the outcome."""
        own_hash = wire.hexed(keccak256(raw))
        try:
            answer = await self.endpoints.send("eth_sendRawTransaction", wire.hexed(raw))
        except RpcError as error:
            return Broadcast(_OUTCOMES.get(kind_of(error), "refused"), own_hash, str(error))
        except EndpointDown as down:
            return Broadcast("unknown" if down.sent else "not-sent", own_hash, down.reason)
        if answer != own_hash:
            return Broadcast("unknown", own_hash, "the endpoint returned a hash other than that of the signed bytes")
        return Broadcast("accepted", own_hash)

    async def receipt(self, hash: str, item: str = "") -> Receipt | None:
        """The receipt of an included transaction; None until it is included."""
        answer = await self._read("eth_getTransactionReceipt", hash)
        return await self._receipt_of(hash, answer, item)

    async def receipts(self, hashes: Sequence[str]) -> list[Receipt | None]:
        """The receipts of many transactions in one request, in the order of the hashes."""
        asked = [RpcRequest("eth_getTransactionReceipt", (hash,)) for hash in hashes]
        answers = [self._unwrapped(answer) for answer in await self.endpoints.batch(asked)]
        return [await self._receipt_of(hash, answer) for hash, answer in zip(hashes, answers, strict=True)]

    async def _receipt_of(self, hash: str, answer: Any, item: str = "") -> Receipt | None:
        """The receipt of an answer if it has a block; a receipt of another transaction is rejected."""
        if answer is None or answer.get("blockHash") is None:
            return None
        if str(answer.get("transactionHash")).lower() != hash.lower():
            raise wire.malformed("a receipt of another transaction")
        return wire.receipt(answer, item, await self._time_of(answer["blockHash"]))

    async def block_receipts(self, block_hash: str) -> list[Receipt] | None:
        """The receipts of all transactions of a block; None when no endpoint knows it."""
        block = await self._read("eth_getBlockByHash", block_hash, False)
        if block is None:
            return None
        time = wire.quantity(block["timestamp"])
        try:
            answers = await self.endpoints.call("eth_getBlockReceipts", block_hash)
        except RpcError:
            answers = None  # the method is missing or does not accept a block hash
        if answers is None or any(answer.get("blockHash") != block_hash for answer in answers):
            asked = [RpcRequest("eth_getTransactionReceipt", (hash,)) for hash in block["transactions"]]
            answers = [self._unwrapped(answer) for answer in await self.endpoints.batch(asked)] if asked else []
        return [wire.receipt(answer, "", time) for answer in answers if answer is not None]

    async def logs(
        self, block_hash: str, address: str | None = None, topics: Sequence[str | list[str] | None] = ()
    ) -> list[Log]:
        """The events of one block by its hash; `index` is their place in the block."""
        wanted: dict[str, Any] = {"blockHash": block_hash}
        if address is not None:
            wanted["address"] = address
        if topics:
            wanted["topics"] = list(topics)
        answer = await self._read("eth_getLogs", wanted)
        return [wire.log(entry, wire.quantity(entry["logIndex"])) for entry in answer]

    async def find_transaction(self, hash: str) -> ChainTransaction | None:
        """A transaction by its hash; None when the chain does not know it."""
        asked = [
            RpcRequest("eth_getTransactionByHash", (hash,)),
            RpcRequest("eth_getTransactionReceipt", (hash,)),
            RpcRequest("eth_blockNumber"),
        ]
        sent, mined, head = [self._unwrapped(answer) for answer in await self.endpoints.batch(asked)]
        return None if sent is None else wire.transaction(sent, mined, wire.quantity(head))

    async def explain(self, hash: str, errors: Sequence[Mapping[str, Any]] = ()) -> Mapping[str, Any] | None:
        """Why an included transaction reverted, since nodes do not keep reasons: from its trace, else by a call at the
        state before its block, else after it. None if the reason cannot be determined.
        """
        sent = await self._read("eth_getTransactionByHash", hash)
        if sent is None or sent.get("blockNumber") is None:
            return None
        traced = await self._traced_revert(hash)
        if traced is not None:
            return _reason(traced, errors)
        fields = {name: sent[name] for name in ("from", "to", "value", "gas") if sent.get(name) is not None}
        number = wire.quantity(sent["blockNumber"])
        for at in (hex(max(0, number - 1)), hex(number)):
            try:
                await self.endpoints.call("eth_call", {**fields, "data": sent["input"]}, at)
            except RpcError as error:
                if kind_of(error) is Kind.REVERTED:
                    return _reason(error.data or b"", errors, error.message)
        return None

    async def _traced_revert(self, hash: str) -> bytes | None:
        """The revert data from the transaction's trace; None if the endpoint has no traces."""
        try:
            trace = await self.endpoints.call("debug_traceTransaction", hash, _REVERT_TRACER)
        except (RpcError, Temporary):
            return None
        if not isinstance(trace, dict) or not trace.get("error"):
            return None
        output = trace.get("output")
        return wire.data(output) if isinstance(output, str) and len(output) > 2 else None

    async def _time_of(self, block_hash: str) -> int:
        if block_hash not in self._times:
            block = await self.find_block(block_hash)
            if block is None:
                raise wire.malformed("the block of a receipt")
            self._times[block_hash] = block.time
            if len(self._times) > _KEPT_TIMES:
                self._times.popitem(last=False)
        return self._times[block_hash]

    async def _read(self, method: str, *params: Any) -> Any:
        try:
            return await self.endpoints.call(method, *params)
        except RpcError as error:
            raise to_error(error, f"{method} of {self._network.name}") from None

    def _unwrapped(self, answer: Any) -> Any:
        if isinstance(answer, RpcError):
            raise to_error(answer, f"A read of {self._network.name}")
        return answer


def _reason(data: bytes, errors: Sequence[Mapping[str, Any]], message: str | None = None) -> Mapping[str, Any]:
    shown: Mapping[str, Any] = reverted(data, "It", errors, message).public_details()[0]["revert"]
    return shown


def _at(block: str) -> Any:
    """The block parameter of a call; a hash is passed as in EIP-1898, so that no other block can answer."""
    return {"blockHash": block} if len(block) == 66 else block


def _check_time(network: Network, head_s: int) -> None:
    """Detects a false height by the block's time, since a single endpoint cannot be compared with others."""
    ahead_s = head_s - clock.now_ms() // 1000
    if -_OLDEST_HEAD_S <= ahead_s <= _NEWEST_HEAD_S:
        return
    where = f"{ahead_s} s in the future" if ahead_s > 0 else f"{-ahead_s} s in the past"
    raise Temporary(
        f"The newest block that the endpoints of {network.name} (chain {network.chain_id}) report is {where}, so "
        "nothing is signed. Check `chain_endpoints`.",
        code=Code.CHAIN_UNREACHABLE,
    )
