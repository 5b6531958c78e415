"""Deploys a contract from its bytecode.

Use it with a compiler artifact: `bytecode` is the creation code, `abi` declares the constructor, and `args` are its
arguments in order or by name. The result has the address. Bytecode with unlinked libraries is rejected. To call the
contract afterwards use `write-contract` and `read-contract`.
"""

from __future__ import annotations

import re
from typing import Any, Final

from pydantic import Field, field_validator

from dustrun.actions.evm.coins import native_coin
from dustrun.actions.evm.contract_calls import EventFields, read_events, show_events
from dustrun.actions.evm.declared_amounts import TAKES, CallFields, declared_movements
from dustrun.actions.evm.fields import ChainId, TransactionFields, Units, name_of, transaction_facts
from dustrun.core.evm import abi_signatures
from dustrun.core.evm.abi import AbiFault, encode, read_args
from dustrun.core.money.intent import FundsMovement, Intent, Movement, Spend, Spent
from dustrun.core.values.addresses import ZERO_ADDRESS, keccak256
from dustrun.errors import Permanent
from dustrun.sdk import Context, Effect, action
from dustrun.sdk.action import refuse

_MOST_BYTES: Final = 49_152  # EIP-3860


class Input(CallFields):
    """The bytecode and constructor arguments."""

    chain_id: ChainId
    bytecode: str = Field(description="The creation code as the compiler emits it, 0x-hex.")
    abi: Any = Field(None, description="The JSON ABI of the contract, for its constructor and events.")
    args: list[Any] | dict[str, Any] = Field([], description="The constructor arguments, in order or by name.")
    value: Units = Field(0, description="Native coin sent to the constructor, in base units.")

    @field_validator("bytecode")
    @classmethod
    def _check_bytecode(cls, value: str) -> str:
        text = value if value.startswith("0x") else f"0x{value}"
        if "__" in text:
            raise ValueError("has an unlinked library address (__$…$__); link it first")
        if re.fullmatch(r"0x([0-9a-fA-F]{2})+", text) is None:
            raise ValueError("must be 0x followed by an even number of hexadecimal digits, at least two")
        if len(text) // 2 - 1 > _MOST_BYTES:
            raise ValueError(f"has {len(text) // 2 - 1} bytes; chains accept at most {_MOST_BYTES}")
        return text


class Output(TransactionFields):
    """The deployed contract."""

    contract_address: str = Field(description="Address of the contract.")
    events: list[EventFields] = Field(description="The constructor's events that `abi` declares.")


def _arguments(input: Input) -> bytes:
    """The encoded constructor arguments, appended to the bytecode."""
    try:
        entries = abi_signatures.entries_of(input.abi if input.abi is not None else [], "constructor")
    except AbiFault as fault:
        raise refuse(fault.message, "abi") from None
    if not entries:
        if input.args:
            raise refuse("the ABI has no constructor with arguments; provide its abi", "args")
        return b""
    try:
        constructor = abi_signatures.read_json_function(entries[0])
    except AbiFault as fault:
        raise refuse(fault.message, "abi") from None
    if input.value and constructor.mutability == "nonpayable":
        raise refuse("the constructor does not accept native coin (it is not payable)", "value")
    try:
        return encode(constructor.inputs, read_args(constructor.inputs, input.args))
    except AbiFault as fault:
        raise refuse(f"the constructor: {fault.message}", fault.field or "args") from None


async def finish(input: Input, spend: Spend, spent: Spent, ctx: Context) -> Output:
    """Builds the output with the contract's address."""
    receipt = spent.receipts[0]
    if receipt.contract_address is None:
        raise Permanent(f"{name_of(receipt)} succeeded without a contract address.")
    return Output(
        **transaction_facts(receipt, ctx.chain(input.chain_id).network),
        contract_address=receipt.contract_address,
        events=show_events(receipt.logs, read_events((), input.abi)),
    )


@action(
    effect=Effect.SPEND,
    input=Input,
    output=Output,
    example_input={"chainId": 1, "bytecode": "0x6001600c60003960016000f300", "args": []},
    example_output={
        "hash": "0x5c504ed432cb51138bcf09aa5e8a410dd4a1e204ef84bfed1be16dfba1b22060",
        "blockNumber": 21000000,
        "gasUsed": "53530",
        "fee": "1070600000000000",
        "feeFormatted": "0.0010706",
        "explorerUrl": "https://etherscan.io/tx/0x5c504ed432cb51138bcf09aa5e8a410dd4a1e204ef84bfed1be16dfba1b22060",
        "contractAddress": "0x5FbDB2315678afecb367f032d93F642f64180aa3",
        "events": [],
    },
    funds_movement=[FundsMovement("send", "value", needs_field="amounts"), TAKES],
    finish=finish,
    tags=("evm", "contract"),
)
async def deploy_contract(input: Input, ctx: Context) -> Spend:
    """Encodes the creation data, then returns the intent."""
    chain, sender = ctx.chain(input.chain_id), ctx.wallet.address
    data = bytes.fromhex(input.bytecode[2:]) + _arguments(input)
    read_events((), input.abi)
    coin, balance = native_coin(chain), await chain.balance(sender)
    if input.value > balance:
        raise refuse(f"the wallet {sender} has {coin.tell(balance)}, not {coin.tell(input.value)}", "value")
    sent = (Movement("send", coin.asset, input.value, ZERO_ADDRESS),) if input.value else ()
    intent = Intent(
        item="deploy",
        chain_id=input.chain_id,
        to=None,
        value_units=input.value,
        data=data,
        movements=(*sent, *await declared_movements(chain, input.amounts, sent, ZERO_ADDRESS)),
        as_written=True,
        about=f"Create a contract of {len(data)} bytes (keccak {keccak256(data).hex()[:12]}…) on {chain.network.name}",
    )
    return Spend((intent,))
