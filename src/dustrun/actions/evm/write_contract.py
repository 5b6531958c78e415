"""Calls a contract function in a transaction.

Use it for everything without an action of its own. The function is a signature (`deposit(uint256 amount, address to)`)
or a name in `abi`. The wallet's policy judges the contract and function, the value sent, and what well-known functions
of tokens (transfer, approve and the like) and of Uniswap's routers move, whatever they are called here, also within
`multicall`. `data` sends raw calldata instead; unless it calls a well-known token function, most policies deny what
they cannot decode.

`amounts` names the arguments that say how much of a token the call takes: the policy counts them, and a dust test
scales them, each with the `minimum` that the call must give for it, and refuses a call that takes more.
Without it a call that sends no native coin does not run in a dust test.

The call is simulated first: one that would revert fails with its reason, before anything is signed. `events` of the
result are the events that `abi` or `events` declare; `logs` are all. For plain transfers, approvals and swaps use their
own actions: they check more.
"""

from __future__ import annotations

import re
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from dustrun.actions.evm import erc20
from dustrun.actions.evm.coins import native_coin
from dustrun.actions.evm.contract_calls import (
    EventFields,
    LogFields,
    check_code,
    read_calldata,
    read_events,
    read_function,
    show_events,
    show_logs,
)
from dustrun.actions.evm.declared_amounts import TAKES, CallFields, declared_movements
from dustrun.actions.evm.fields import ChainId, Party, TransactionFields, Units, transaction_facts
from dustrun.core.evm import abi_signatures
from dustrun.core.evm.abi import AbiFault, Function
from dustrun.core.money.intent import FundsMovement, Intent, Movement, Spend, Spent
from dustrun.core.money.router_calls import RouterCall, router_movements
from dustrun.core.money.token_calls import Unread, implied_movement, implied_movements
from dustrun.sdk import Context, Effect, Origin, action
from dustrun.sdk.action import refuse
from dustrun.sdk.chain import Chain


class Input(CallFields):
    """The contract, function and arguments."""

    chain_id: ChainId
    contract: Party = Field(description="Address of the contract.")
    function: str | None = Field(
        None, min_length=1, max_length=2000, description="The function: a signature, or its name in `abi`."
    )
    abi: Any = Field(None, description="The JSON ABI of the contract: a list, a single entry, or a compiler artifact.")
    args: list[Any] | dict[str, Any] = Field(
        [], description="The arguments in order, or by name; large numbers as strings of digits."
    )
    data: str | None = Field(None, description="Raw calldata, 0x-hex, instead of function and args.")
    value: Units = Field(0, description="Native coin to send with the call, in base units.")
    gas_limit: int | None = Field(
        None,
        ge=21_000,
        le=100_000_000,
        description="The gas limit, also used for the simulation before signing; estimated by default.",
    )
    events: list[str] = Field(
        [], max_length=50, description="Events to decode: `Deposited(address indexed who, uint256 amount)`."
    )

    @field_validator("data")
    @classmethod
    def _check_data(cls, value: str | None) -> str | None:
        if value is not None and re.fullmatch(r"0x([0-9a-fA-F]{2})*", value) is None:
            raise ValueError("must be 0x followed by an even number of hexadecimal digits")
        return value

    @model_validator(mode="after")
    def _check_one(self) -> Self:
        if (self.function is None) == (self.data is None):
            raise ValueError("give either function (with args) or data, not both")
        if self.data is not None and (self.args or self.amounts):
            raise ValueError("args require function; data includes its arguments, and they cannot be named in amounts")
        return self


class Output(TransactionFields):
    """The result."""

    contract: str = Field(description="The contract.")
    function: str | None = Field(description="The function that was called; null if the calldata cannot be decoded.")
    events: list[EventFields] = Field(description="The decoded events that `abi` or `events` declare.")
    logs: list[LogFields] = Field(description="All event logs, undecoded.")


def _read(input: Input) -> tuple[bytes, Function | None, tuple[dict[str, Any], ...]]:
    """The calldata, the function if known, and the ABI's errors."""
    try:
        errors = tuple(dict(entry) for entry in abi_signatures.entries_of(input.abi or [], "error"))
    except AbiFault as fault:
        raise refuse(fault.message, "abi") from None
    if input.data is not None:
        return bytes.fromhex(input.data[2:]), None, errors
    assert input.function is not None
    function = read_function(input.function, input.abi)
    if function.mutability in ("view", "pure"):
        raise refuse(f"{function.signature} changes nothing; use read-contract", "function")
    if input.value and function.mutability == "nonpayable":
        raise refuse(f"{function.signature} does not accept native coin (it is not payable)", "value")
    return read_calldata(function, input.args), function, errors


def _events(abi: Any) -> list[dict[str, Any]]:
    """The events of a JSON ABI that was validated before."""
    return [dict(entry) for entry in abi_signatures.entries_of(abi or [], "event")]


def _movements(chain: Chain, input: Input, data: bytes, sender: str) -> tuple[Movement, ...]:
    """The movements of the call: its value, and what well-known calldata of tokens, routers and nested calls moves."""
    network, field = chain.network, "data" if input.data is not None else "args"
    call = RouterCall(input.chain_id, sender, input.contract, input.value, data, network.wrapped_native)
    try:
        implied = [*implied_movements(input.chain_id, input.contract, data), *router_movements(call)]
    except Unread as fault:
        raise refuse(f"the nested calls cannot be decoded: {fault}", field) from None
    value = Movement("send", native_coin(chain).asset, input.value, input.contract)
    return (*([value] if input.value else []), *implied)


async def finish(input: Input, spend: Spend, spent: Spent, ctx: Context) -> Output:
    """Builds the output with decoded events."""
    receipt = spent.receipts[0]
    return Output(
        **transaction_facts(receipt, ctx.chain(input.chain_id).network),
        contract=input.contract,
        function=spend.intents[0].method,
        events=show_events(receipt.logs, read_events(input.events, input.abi)),
        logs=show_logs(receipt.logs),
    )


@action(
    effect=Effect.SPEND,
    input=Input,
    output=Output,
    example_input={
        "chainId": 1,
        "contract": "0x83F20F44975D03b1b09e64809B757c47f942BEeA",
        "function": "deposit(uint256 assets, address receiver)",
        "args": ["1000000000000000000", "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"],
        "events": ["Deposit(address indexed sender, address indexed owner, uint256 assets, uint256 shares)"],
    },
    example_output={
        "hash": "0x5c504ed432cb51138bcf09aa5e8a410dd4a1e204ef84bfed1be16dfba1b22060",
        "blockNumber": 21000000,
        "gasUsed": "102331",
        "fee": "2046620000000000",
        "feeFormatted": "0.00204662",
        "explorerUrl": "https://etherscan.io/tx/0x5c504ed432cb51138bcf09aa5e8a410dd4a1e204ef84bfed1be16dfba1b22060",
        "contract": "0x83F20F44975D03b1b09e64809B757c47f942BEeA",
        "function": "deposit(uint256,address)",
        "events": [
            {
                "contract": "0x83F20F44975D03b1b09e64809B757c47f942BEeA",
                "name": "Deposit",
                "args": {
                    "sender": "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
                    "owner": "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
                    "assets": "1000000000000000000",
                    "shares": "912345678901234567",
                },
            }
        ],
        "logs": [],
    },
    funds_movement=[FundsMovement("send", "value", recipient_field="contract", needs_field="amounts"), TAKES],
    finish=finish,
    origins=[Origin("contract", "contract")],
    tags=("evm", "contract"),
)
async def write_contract(input: Input, ctx: Context) -> Spend:
    """Encodes the call, then returns the intent."""
    chain, sender = ctx.chain(input.chain_id), ctx.wallet.address
    data, function, errors = _read(input)
    method = None if function is None else function.signature
    read_events(input.events, input.abi)
    await check_code(chain, input.contract)
    coin, balance = native_coin(chain), await chain.balance(sender)
    if input.value > balance:
        raise refuse(f"the wallet {sender} has {coin.tell(balance)}, not {coin.tell(input.value)}", "value")
    known = _movements(chain, input, data, sender)
    movements = (*known, *await declared_movements(chain, input.amounts, known, input.contract))
    is_well_known = implied_movement(input.chain_id, input.contract, data) is not None
    value = f" with {coin.tell(input.value)}" if input.value else ""
    intent = Intent(
        item="write",
        chain_id=input.chain_id,
        to=input.contract,
        value_units=input.value,
        data=data,
        movements=movements,
        about=f"Call {method or 'unread calldata'} of {input.contract}{value} on {chain.network.name}",
        method=method,
        is_decoded=method is not None or is_well_known,
        as_written=not is_well_known,
        gas_limit=input.gas_limit,
        errors=(*erc20.ERRORS, *errors),
        events=(*({"signature": text} for text in input.events), *_events(input.abi)),
        returns=tuple(param.public() for param in function.outputs or ()) if function is not None else (),
    )
    return Spend((intent,))
