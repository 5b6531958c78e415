"""JSON-RPC formats: hex quantities and data, blocks, receipts and transactions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dustrun.core.money.intent import Log, Receipt
from dustrun.core.values.addresses import checksum
from dustrun.errors import Code, Temporary
from dustrun.sdk.chain import Block, ChainCall, ChainTransaction


def quantity(value: Any) -> int:
    """Parses a `0x…` number; raises `Temporary` for anything else, since the endpoint is broken."""
    try:
        return int(value, 16)
    except (TypeError, ValueError):
        raise malformed("a number") from None


def data(value: Any) -> bytes:
    """Parses `0x…` bytes; raises `Temporary` for anything else."""
    try:
        return bytes.fromhex(value.removeprefix("0x"))
    except (AttributeError, ValueError):
        raise malformed("bytes") from None


def malformed(what: str) -> Temporary:
    """The `Temporary` error for a malformed answer."""
    return Temporary(f"An endpoint returned a malformed answer for {what}.", code=Code.CHAIN_UNREACHABLE)


def hexed(value: bytes) -> str:
    """Bytes as `0x…`."""
    return f"0x{value.hex()}"


def call_fields(call: ChainCall) -> dict[str, Any]:
    """The call object of `eth_call`."""
    fields: dict[str, Any] = {"to": call.to, "data": hexed(call.data)}
    if call.sender is not None:
        fields["from"] = call.sender
    if call.value_units:
        fields["value"] = hex(call.value_units)
    return fields


def block(answer: Any) -> Block:
    """Parses the result of `eth_getBlockBy…`."""
    if not isinstance(answer, Mapping) or not isinstance(answer.get("hash"), str):
        raise malformed("a block")
    fee = answer.get("baseFeePerGas")
    return Block(
        number=quantity(answer.get("number")),
        hash=answer["hash"],
        time=quantity(answer.get("timestamp")),
        base_fee_units=None if fee is None else quantity(fee),
    )


def log(answer: Mapping[str, Any], index: int) -> Log:
    """Parses one event; `index` is its position in the transaction."""
    topics = tuple(data(topic) for topic in answer["topics"])
    return Log(checksum(answer["address"]), topics, data(answer.get("data") or "0x"), index)


def logs(answer: Mapping[str, Any]) -> tuple[Log, ...]:
    """Parses the events of a receipt, in order."""
    return tuple(log(entry, place) for place, entry in enumerate(answer.get("logs") or ()))


def fee_units(answer: Mapping[str, Any]) -> int:
    """The total fee in base units: gas, plus the L1 data fee on the OP stack."""
    gas = quantity(answer["gasUsed"]) * quantity(answer.get("effectiveGasPrice") or "0x0")
    return gas + quantity(answer.get("l1Fee") or "0x0")


def receipt(answer: Mapping[str, Any], item: str, block_time: int) -> Receipt:
    """Parses a receipt; one from before EIP-658, which has `root` instead of `status`, counts as a success."""
    try:
        if answer.get("root") is None and answer.get("status") is None:
            raise KeyError("status")
        created = answer.get("contractAddress")
        return Receipt(
            item=item,
            is_success=quantity(answer.get("status") or "0x1") == 1,
            block_number=quantity(answer["blockNumber"]),
            block_hash=answer["blockHash"],
            block_time=block_time,
            gas_used=quantity(answer["gasUsed"]),
            gas_price_units=quantity(answer.get("effectiveGasPrice") or "0x0"),
            fee_units=fee_units(answer),
            logs=logs(answer),
            hash=answer["transactionHash"],
            contract_address=None if created is None else checksum(created),
        )
    except (KeyError, TypeError):
        raise malformed("a receipt") from None


def transaction(sent: Mapping[str, Any], mined: Mapping[str, Any] | None, head: int) -> ChainTransaction:
    """Combines a transaction with its receipt, if it has one; `head` is the current height."""
    number = None if mined is None else quantity(mined["blockNumber"])
    try:
        return ChainTransaction(
            hash=sent["hash"],
            sender=checksum(sent["from"]),
            to=None if sent.get("to") is None else checksum(sent["to"]),
            nonce=quantity(sent["nonce"]),
            value_units=quantity(sent["value"]),
            data=data(sent["input"]),
            block_number=number,
            is_success=None if mined is None else quantity(mined.get("status") or "0x1") == 1,
            gas_used=None if mined is None else quantity(mined["gasUsed"]),
            fee_units=None if mined is None else fee_units(mined),
            logs=() if mined is None else logs(mined),
            confirmations=0 if number is None else max(0, head - number + 1),
        )
    except (KeyError, TypeError):
        raise malformed("a transaction") from None
