"""Executes intents on a node: signs with a development key, sends, and hands back real receipts.

It replaces the outbox, so that an action's test needs neither store nor server.
"""

from __future__ import annotations

from typing import Any

from eth_account import Account
from eth_account.messages import encode_defunct, encode_typed_data
from web3 import Web3

from dustrun.core.money.intent import Intent, Log, Receipt, SignRequest, Spend, Spent
from dustrun.sdk.chain import WalletView
from testkit.chain.anvil import ACCOUNTS, KEYS
from testkit.chain.contracts import Witness


class NodeWallet:
    """One development account of the node."""

    def __init__(self, witness: Witness, number: int = 1) -> None:
        self.witness = witness
        self.address = ACCOUNTS[number]
        self.view = WalletView("wal_00000000000000000000000001", "test", self.address)
        self.seen: list[Spend] = []
        self._key = KEYS[number]

    def execute(self, spend: Spend) -> Spent:
        """One transaction per intent, in order; each must succeed."""
        self.seen.append(spend)
        receipts = tuple(self._send(intent) for intent in spend.intents)
        return Spent(receipts, {request.item: self._sign(request) for request in spend.signatures})

    def _send(self, intent: Intent) -> Receipt:
        web3 = self.witness.web3
        base = int(web3.eth.get_block("latest")["baseFeePerGas"])
        fields: dict[str, Any] = {
            "chainId": intent.chain_id,
            "nonce": web3.eth.get_transaction_count(Web3.to_checksum_address(self.address)),
            "value": intent.value_units,
            "data": intent.data,
            "maxFeePerGas": 2 * base + 10**9,
            "maxPriorityFeePerGas": 10**9,
        } | ({"to": intent.to} if intent.to else {})
        estimated = web3.eth.estimate_gas({**fields, "from": self.address})  # type: ignore[typeddict-item]
        fields["gas"] = intent.gas_limit or 2 * estimated + 30_000  # a pool takes much more in the next second
        signed = Account.sign_transaction(fields, self._key)
        hash = web3.eth.send_raw_transaction(signed.raw_transaction)
        return self._receipt(intent.item, web3.eth.wait_for_transaction_receipt(hash, timeout=30, poll_latency=0.01))

    def _receipt(self, item: str, found: Any) -> Receipt:
        assert found["status"] == 1, f"the transaction of {item} reverted"
        block = self.witness.web3.eth.get_block(found["blockNumber"])
        logs = (
            Log(log["address"], tuple(bytes(topic) for topic in log["topics"]), bytes(log["data"]), log["logIndex"])
            for log in found["logs"]
        )
        return Receipt(
            item=item,
            is_success=True,
            block_number=found["blockNumber"],
            block_hash=found["blockHash"].to_0x_hex(),
            block_time=block["timestamp"],
            gas_used=found["gasUsed"],
            gas_price_units=found["effectiveGasPrice"],
            fee_units=found["gasUsed"] * found["effectiveGasPrice"],
            logs=tuple(logs),
            hash=found["transactionHash"].to_0x_hex(),
            contract_address=found["contractAddress"],
        )

    def _sign(self, request: SignRequest) -> str:
        if request.kind == "typed-data":
            message = encode_typed_data(full_message=request.payload)
        elif request.payload.startswith("0x"):
            message = encode_defunct(hexstr=request.payload)
        else:
            message = encode_defunct(text=request.payload)
        return str(Account.sign_message(message, self._key).signature.to_0x_hex())
