"""Receipts and logs as JSON text, as the outbox stores them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dustrun.core.money.intent import Log, Receipt

Json = dict[str, Any]


def show_log(log: Log) -> Json:
    """A log as JSON."""
    topics = ["0x" + topic.hex() for topic in log.topics]
    return {"address": log.address, "topics": topics, "data": "0x" + log.data.hex(), "logIndex": log.index}


def read_log(shown: Mapping[str, Any]) -> Log:
    """From `show_log`."""
    topics = tuple(bytes.fromhex(topic[2:]) for topic in shown["topics"])
    return Log(shown["address"], topics, bytes.fromhex(shown["data"][2:]), int(shown["logIndex"]))


def show_receipt(receipt: Receipt) -> Json:
    """A receipt as JSON; amounts are strings."""
    return {
        "hash": receipt.hash,
        "isSuccess": receipt.is_success,
        "blockNumber": receipt.block_number,
        "blockHash": receipt.block_hash,
        "blockTime": receipt.block_time,
        "gasUsed": receipt.gas_used,
        "gasPrice": str(receipt.gas_price_units),
        "fee": str(receipt.fee_units),
        "contractAddress": receipt.contract_address,
        "revert": dict(receipt.revert) if receipt.revert is not None else None,
        "logs": [show_log(log) for log in receipt.logs],
    }


def read_receipt(item: str, shown: Mapping[str, Any]) -> Receipt:
    """Inverse of `show_receipt`, for one of a node's intents."""
    return Receipt(
        item=item,
        is_success=bool(shown["isSuccess"]),
        block_number=int(shown["blockNumber"]),
        block_hash=shown["blockHash"],
        block_time=int(shown["blockTime"]),
        gas_used=int(shown["gasUsed"]),
        gas_price_units=int(shown["gasPrice"]),
        fee_units=int(shown["fee"]),
        logs=tuple(read_log(log) for log in shown["logs"]),
        hash=shown["hash"],
        contract_address=shown["contractAddress"],
        revert=shown["revert"],
    )
