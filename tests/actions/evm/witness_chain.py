"""A chain read through web3.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from web3.exceptions import ContractLogicError, TransactionNotFound, Web3RPCError

from contracts import Witness
from dustrun.core.intent import Log
from dustrun.core.network import Network
from dustrun.errors import Permanent
from dustrun.sdk.chain import Block, CallResult, ChainCall, ChainTransaction, Fees


class WitnessChain:
    def __init__(self, witness: Witness, network: Network) -> None:
        self.web3 = witness.web3
        self._network = network

    @property
    def network(self) -> Network:
        return self._network

    async def block(self) -> Block:
        found = self.web3.eth.get_block("latest")
        return Block(found["number"], found["hash"].to_0x_hex(), found["timestamp"], found["baseFeePerGas"])

    async def call(self, call: ChainCall) -> bytes:
        fields: Any = {"to": call.to, "data": call.data, "value": call.value_units}
        if call.sender:
            fields["from"] = call.sender
        try:
            return bytes(self.web3.eth.call(fields))
        except (ContractLogicError, Web3RPCError) as error:
            raise Permanent(str(error)) from None

    async def call_many(self, calls: Sequence[ChainCall]) -> list[CallResult]:
        found = []
        for call in calls:
            try:
                found.append(CallResult(True, await self.call(call)))
            except Permanent:
                found.append(CallResult(False, b""))
        return found

    async def balance(self, address: str) -> int:
        return self.web3.eth.get_balance(address)  # type: ignore[arg-type]

    async def code(self, address: str) -> bytes:
        return bytes(self.web3.eth.get_code(address))  # type: ignore[arg-type]

    async def fees(self) -> Fees:
        base = self.web3.eth.get_block("latest")["baseFeePerGas"]
        return Fees(2 * base + 10**9, 10**9, base + 10**9)

    async def find_transaction(self, hash: str) -> ChainTransaction | None:
        try:
            found = self.web3.eth.get_transaction(hash)  # type: ignore[arg-type]
            receipt = self.web3.eth.get_transaction_receipt(hash)  # type: ignore[arg-type]
        except TransactionNotFound:
            return None
        logs = tuple(
            Log(log["address"], tuple(bytes(topic) for topic in log["topics"]), bytes(log["data"]), log["logIndex"])
            for log in receipt["logs"]
        )
        head = self.web3.eth.block_number
        return ChainTransaction(
            hash,
            found["from"],
            found.get("to"),
            found["nonce"],
            found["value"],
            bytes(found["input"]),
            receipt["blockNumber"],
            receipt["status"] == 1,
            receipt["gasUsed"],
            receipt["gasUsed"] * receipt["effectiveGasPrice"],
            logs,
            head - receipt["blockNumber"] + 1,
        )
