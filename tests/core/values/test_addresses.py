from __future__ import annotations

from typing import Any

import pytest
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st

from dustrun.core.values import addresses
from dustrun.core.values.addresses import address_of_word, checksum, is_address, keccak256, read_address

ADDRESS = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"


@given(st.binary(min_size=20, max_size=20))
def test_capitals_are_those_of_the_witness(data: bytes) -> None:
    text = "0x" + data.hex()
    assert checksum(text) == to_checksum_address(text) == read_address(text) == read_address("0x" + data.hex().upper())
    assert address_of_word(bytes(12) + data) == to_checksum_address(text)


@given(st.binary(max_size=300))
def test_keccak_is_that_of_the_witness(data: bytes) -> None:
    """Also where OpenSSL has none."""
    assert keccak256(data) == addresses._by_pycryptodome(data) == keccak(data)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (ADDRESS[2:], "add 0x in front"),
        (f" {ADDRESS}", "remove the white space"),
        (ADDRESS[:-1], "this one has 39"),
        (ADDRESS + "00", "this one has 42"),
        ("vitalik.eth", "names like alice.eth are not resolved"),
        (ADDRESS.replace("A", "a", 1), "EIP-55"),
        (ADDRESS.replace("0x", "0X"), "is not an address:"),
        (5, "this is not an address"),
        (None, "this is not an address"),
        ("", "is not an address:"),
    ],
)
def test_what_is_no_address_says_how_to_mend_it(value: Any, message: str) -> None:
    assert not is_address(value)
    with pytest.raises(ValueError, match=message):
        read_address(value)
