"""Field types shared by this family: chains, addresses, amounts."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from dustrun.core.values.addresses import ZERO_ADDRESS, read_address
from dustrun.core.values.amounts import read_units
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
