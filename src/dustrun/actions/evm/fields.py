"""Field types shared by this family: chains, addresses, amounts."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from dustrun.core.evm.abi import AbiFault
from dustrun.core.evm.abi_signatures import parse_function
from dustrun.core.evm.network import Network
from dustrun.core.money.intent import Receipt
from dustrun.core.values.addresses import ZERO_ADDRESS, read_address
from dustrun.core.values.amounts import format_units, read_units
from dustrun.sdk import Fields
from dustrun.sdk.action import refuse
from dustrun.sdk.chain import Chain, ChainCall
from dustrun.sdk.fields import ChainId as ChainId

MAX: Final = "max"
_PRECOMPILED: Final = (*range(0x01, 0x12), 0x100)  # Ethereum's; L2 precompiles may accept coin, such as Arbitrum's 0x64
_DIGITS: Final = {"type": "string", "pattern": "^[0-9]{1,78}$"}
_UNITS: Final[dict[str, Any]] = {"anyOf": [_DIGITS, {"type": "integer", "minimum": 0}]}


def _read_party(value: Any) -> str:
    address = read_address(value)
    if address == ZERO_ADDRESS:
        raise ValueError("is the zero address; what is sent there is lost")
    if int(address, 16) in _PRECOMPILED:
        raise ValueError("is a precompiled contract; what is sent there is lost")
    return address


def _read_positive(value: Any) -> int:
    units = read_units(value)
    if units == 0:
        raise ValueError("must be more than 0")
    return units


def _read_amount(value: Any) -> int | str:
    return MAX if value == MAX else _read_positive(value)


_ADDRESS = {"type": "string", "format": "evm-address", "x-widget": "address"}
Token = Annotated[
    str,
    Field(
        max_length=100,
        description="Address of the token, or a symbol from the chain's file.",
        json_schema_extra={"x-widget": "token"},
    ),
]
Address = Annotated[str, AfterValidator(read_address), WithJsonSchema(_ADDRESS)]
Party = Annotated[str, AfterValidator(_read_party), WithJsonSchema(_ADDRESS)]
"""A recipient address: never the zero address or a precompiled contract."""

Units = Annotated[int, BeforeValidator(read_units), WithJsonSchema(_UNITS)]
"""An amount in base units, zero included."""

Positive = Annotated[int, BeforeValidator(_read_positive), WithJsonSchema(_UNITS)]
Amount = Annotated[
    int | Literal["max"],
    BeforeValidator(_read_amount),
    WithJsonSchema({"anyOf": [_DIGITS, {"const": MAX}, {"type": "integer", "minimum": 1}]}),
]
"""An amount in base units, or `max` for the whole balance."""


# How much native coin a transfer of the whole balance leaves for its own fee.


PLAIN_TRANSFER: Final = 21_000
_TO_CONTRACT: Final = 150_000
_ON_ARBITRUM: Final = 1_500_000  # its gas includes the data on L1
_ORACLE: Final = "0x420000000000000000000000000000000000000F"
_DATA_FEE: Final = parse_function("getL1Fee(bytes data) view returns (uint256)")
_TRANSFER: Final = "0x" + bytes(range(1, 121)).hex()  # as long as a signed transfer, and as incompressible


async def transfer_gas(chain: Chain, recipient: str) -> tuple[int, int | None]:
    """Gas to reserve for a native transfer, and the gas limit to send it with (None: estimated)."""
    if chain.network.data_fee == "arbitrum":
        return _ON_ARBITRUM, None
    if await chain.code(recipient):
        return _TO_CONTRACT, None
    return PLAIN_TRANSFER, PLAIN_TRANSFER


async def fee_reserve(chain: Chain, gas: int) -> int:
    """Base units to reserve for that gas: 50 % over the current maximum fee, since fees rise between blocks."""
    fees = await chain.fees()
    return gas * fees.max_fee_units * 3 // 2 + await _data_fee(chain)


async def _data_fee(chain: Chain) -> int:
    """Twice the L1 data fee that an OP-stack chain reports for a transfer."""
    if chain.network.data_fee != "op-stack":
        return 0
    data = await chain.call(ChainCall(_ORACLE, _DATA_FEE.encode(_TRANSFER)))
    try:
        return 2 * int(_DATA_FEE.decode_result(data)[0])
    except AbiFault:
        raise refuse('the chain does not report its data fee; give an amount instead of "max"', "amount") from None


# Output fields about an included transaction.


class TransactionFields(Fields):
    """Output fields of every action that makes one transaction."""

    hash: str | None = Field(description="Hash of the transaction; null in a simulation, or if none was needed.")
    block_number: int | None = Field(description="Number of its block.")
    gas_used: str | None = Field(description="Gas used.")
    fee: str | None = Field(description="Total fee in base units of the native coin.")
    fee_formatted: str | None = Field(description="Total fee in whole coins.")
    explorer_url: str | None = Field(description="Link to the chain's block explorer.")


def transaction_facts(receipt: Receipt | None, network: Network) -> dict[str, Any]:
    """The values of `TransactionFields`; all null if there was no transaction."""
    if receipt is None:
        return dict.fromkeys(TransactionFields.model_fields)
    is_shown = network.explorer is not None and receipt.hash is not None
    return {
        "hash": receipt.hash,
        "block_number": receipt.block_number,
        "gas_used": str(receipt.gas_used),
        "fee": str(receipt.fee_units),
        "fee_formatted": format_units(receipt.fee_units, network.native.decimals),
        "explorer_url": f"{str(network.explorer).rstrip('/')}/tx/{receipt.hash}" if is_shown else None,
    }


def name_of(receipt: Receipt) -> str:
    """The transaction's name in error messages."""
    return "The simulated transaction" if receipt.hash is None else f"The transaction {receipt.hash}"
