"""The ABI for people, with eth_abi as an independent witness."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from eth_abi.abi import decode as witness_decode
from eth_abi.abi import encode as witness_encode
from hypothesis import given
from hypothesis import strategies as st

from dustrun.core.evm import abi, abi_signatures
from dustrun.core.evm.abi import AbiFault
from dustrun.core.expression.functions import abi as codec

ADDRESS = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"

WORDS = st.sampled_from(
    [
        "uint8",
        "uint48",
        "uint56",
        "uint256",
        "int8",
        "int128",
        "int256",
        "bool",
        "address",
        "bytes1",
        "bytes32",
        "bytes",
        "string",
    ]
)


@st.composite
def types(draw: st.DrawFn, depth: int = 2) -> str:
    kind = draw(WORDS)
    if depth and draw(st.booleans()):
        kind = "(" + ",".join(draw(st.lists(types(depth - 1), min_size=1, max_size=3))) + ")"
    return kind + draw(st.sampled_from(["", "", "", "[]", "[2]"]))


@st.composite
def values_of(draw: st.DrawFn, kind: str) -> Any:
    """A value as the witness takes it: bytes are bytes."""
    if kind.endswith("]"):
        inner, _, length = kind[:-1].rpartition("[")
        size = int(length) if length else draw(st.integers(0, 3))
        return [draw(values_of(inner)) for _ in range(size)]
    if kind.startswith("("):
        parts = codec.split_types(kind[1:-1])
        return tuple(draw(values_of(part)) for part in parts)
    if kind.startswith("uint"):
        return draw(st.integers(0, 2 ** int(kind[4:]) - 1))
    if kind.startswith("int"):
        half = 2 ** (int(kind[3:]) - 1)
        return draw(st.integers(-half, half - 1))
    if kind == "bool":
        return draw(st.booleans())
    if kind == "string":
        return draw(st.text(max_size=40))
    size = 20 if kind == "address" else int(kind[5:]) if kind[5:] else draw(st.integers(0, 70))
    data = draw(st.binary(min_size=size, max_size=size))
    return "0x" + data.hex() if kind == "address" else data


def written(value: Any) -> Any:
    """As people write it: large integers as texts, bytes as 0x-hex."""
    if isinstance(value, list | tuple):
        return [written(item) for item in value]
    if isinstance(value, bytes):
        return "0x" + value.hex()
    return str(value) if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 2**53 else value


def shown(kind: str, value: Any) -> Any:
    """As results show it: integers of more than 48 bits as texts, by type."""
    if kind.endswith("]"):
        return [shown(kind[: kind.rindex("[")], item) for item in value]
    if kind.startswith("("):
        return [shown(part, item) for part, item in zip(codec.split_types(kind[1:-1]), value, strict=True)]
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if "int" in kind and int(kind.removeprefix("u")[3:]) > 48:
        return str(value)
    return value


@given(st.data())
def test_encoding_and_decoding_are_those_of_the_witness(data: st.DataObject) -> None:
    kinds = data.draw(st.lists(types(), min_size=1, max_size=3))
    values = [data.draw(values_of(kind)) for kind in kinds]
    params = abi_signatures.parse_params(",".join(kinds))
    encoded = abi.encode(params, abi.read_args(params, written(values)))
    assert encoded == witness_encode(kinds, values)
    decoded = [abi.show(param, value) for param, value in zip(params, abi.decode(params, encoded), strict=True)]
    again = witness_decode(kinds, encoded)
    assert [str(item).lower() for item in decoded] == [
        str(shown(kind, item)).lower() for kind, item in zip(kinds, again, strict=True)
    ]


def test_names_make_objects_of_tuples() -> None:
    function = abi_signatures.parse_function(
        "f((uint256 id, (address who, uint8 n)[] parts) item) returns (bytes32 key)"
    )
    item = {"id": "7", "parts": [{"who": ADDRESS, "n": 1}, [ADDRESS.lower(), "0x2"]]}
    data = function.encode(*abi.read_args(function.inputs, {"item": item}))
    (value,) = function.decode_args(data)
    assert abi.show(function.inputs[0], value) == {
        "id": "7",
        "parts": [{"who": ADDRESS, "n": 1}, {"who": ADDRESS, "n": 2}],
    }
    assert function.signature == "f((uint256,(address,uint8)[]))"
    assert function.outputs is not None
    assert [(param.type, param.name) for param in function.outputs] == [("bytes32", "key")]


def test_a_json_abi_says_the_same_as_a_signature() -> None:
    entry = {
        "type": "function",
        "name": "swap",
        "stateMutability": "payable",
        "inputs": [
            {
                "name": "orders",
                "type": "tuple[]",
                "components": [{"name": "to", "type": "address"}, {"name": "amount", "type": "uint"}],
            }
        ],
        "outputs": [{"name": "", "type": "bool"}],
    }
    text = "function swap(tuple(address to, uint amount)[] calldata orders) external payable returns (bool)"
    assert abi_signatures.read_json_function(entry) == abi_signatures.parse_function(text)
    assert abi_signatures.parse_function(text).selector.hex() == abi_signatures.read_json_function(entry).selector.hex()
    inputs = abi_signatures.parse_function(text).inputs
    assert abi_signatures.read_json_params([param.public() for param in inputs]) == inputs


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        ("uint8", 256, "uint8: 0 to 255"),
        ("uint8", -1, "uint8: 0 to 255"),
        ("int8", "128", "int8: -128 to 127"),
        ("uint256", "1.5", "must be an integer"),
        ("uint256", 1.5, "must be an integer"),
        ("uint256", True, "must be an integer"),
        ("uint256", None, "must be an integer"),
        ("bool", "true", "true or false"),
        ("bool", 1, "true or false"),
        ("bytes4", "0x1234", "has 2 bytes, bytes4 takes 4"),
        ("bytes", "1234", "must be 0x"),
        ("string", 5, "must be a string"),
        ("address", ADDRESS[:-1], "this one has 39"),
        ("uint8[2]", [1], "has 1 items, expected 2"),
        ("uint8[]", 5, "must be a list"),
    ],
)
def test_a_value_that_does_not_fit_is_told(kind: str, value: Any, message: str) -> None:
    params = abi_signatures.parse_params(f"{kind} amount")
    with pytest.raises(AbiFault, match=message) as caught:
        abi.read_args(params, {"amount": value})
    assert caught.value.field == "args.amount"


@pytest.mark.parametrize("value", [Decimal("1E+3"), "1000", "0x3e8", 1000])
def test_numbers_may_be_written_in_every_exact_way(value: Any) -> None:
    assert abi.read_args(abi_signatures.parse_params("uint256"), [value]) == [1000]


@pytest.mark.parametrize(
    "text",
    ["", "f", "f(", "f)", "f(uint7)", "f(address to amount)", "f((uint256)", "1f()", "f(uint256,)", "f(uint256[0])"],
)
def test_what_is_no_signature_is_refused(text: str) -> None:
    with pytest.raises(AbiFault):
        abi_signatures.parse_function(text)


def test_an_event_is_told_from_another_with_the_same_topic() -> None:
    erc20 = abi_signatures.parse_event("Transfer(address indexed from, address indexed to, uint256 value)")
    erc721 = abi_signatures.parse_event("Transfer(address indexed from, address indexed to, uint256 indexed tokenId)")
    assert erc20.topic == erc721.topic
    word = bytes(12) + bytes.fromhex(ADDRESS[2:])
    amount = (5).to_bytes(32)
    assert erc20.find((erc20.topic, word, word), amount) == {"from": ADDRESS, "to": ADDRESS, "value": 5}
    assert erc721.find((erc20.topic, word, word), amount) is None
    assert erc721.show((erc20.topic, word, word, amount), b"") == {"from": ADDRESS, "to": ADDRESS, "tokenId": "5"}
    assert erc20.find((erc20.topic, word, word), b"\x01") is None, "too short to be decoded, and no error"


def test_an_error_becomes_an_entry_of_an_abi() -> None:
    assert abi_signatures.error_entry("Short(address who, uint256 needed)") == {
        "type": "error",
        "name": "Short",
        "inputs": [{"name": "who", "type": "address"}, {"name": "needed", "type": "uint256"}],
    }


@given(st.binary(max_size=300))
def test_any_bytes_decode_or_are_refused(data: bytes) -> None:
    params = abi_signatures.parse_params("(uint256 a, string b)[] items, bytes data, address to")
    try:
        abi.decode(params, data)
    except AbiFault:
        return
