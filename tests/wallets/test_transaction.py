"""Transactions as bytes: equal to those of eth_account, and nothing but what was asked for passes the check."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import rlp as peer  # type: ignore[import-untyped]
from eth_account import Account
from hypothesis import given, settings
from hypothesis import strategies as st

from dustrun.core.values.addresses import checksum
from dustrun.errors import Bug
from dustrun.wallets import transaction
from dustrun.wallets.local import digest_of_message, join_signature
from dustrun.wallets.secp256k1 import CURVE_ORDER, SecretKey, find_signer
from dustrun.wallets.signer import UnsignedTransaction

WRONG = "differs|number of fields|of type 2|wallet's key|shortest form|truncated|missing|trailing|not an integer"
keys = st.integers(1, CURVE_ORDER - 1).map(lambda number: number.to_bytes(32, "big"))
units = st.integers(0, 2**256 - 1) | st.integers(0, 300)
addresses = st.binary(min_size=20, max_size=20).map(lambda raw: checksum("0x" + raw.hex()))


@st.composite
def transactions(draw: st.DrawFn) -> UnsignedTransaction:
    fees = sorted([draw(units), draw(units)])
    return UnsignedTransaction(
        chain_id=draw(st.integers(1, 2**63)),
        nonce=draw(st.integers(0, 2**64 - 2)),
        to=draw(st.none() | addresses),
        value_units=draw(units),
        data=draw(st.binary(max_size=100)),
        gas_limit=draw(st.integers(0, 2**64)),
        max_fee_units=fees[1],
        tip_units=fees[0],
        is_legacy=draw(st.booleans()),
    )


def as_peer(unsigned: UnsignedTransaction) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "chainId": unsigned.chain_id,
        "nonce": unsigned.nonce,
        "to": unsigned.to or b"",
        "value": unsigned.value_units,
        "data": unsigned.data,
        "gas": unsigned.gas_limit,
    }
    if unsigned.is_legacy:
        return fields | {"gasPrice": unsigned.max_fee_units}
    fees = {"maxFeePerGas": unsigned.max_fee_units, "maxPriorityFeePerGas": unsigned.tip_units}
    return fields | {"type": 2, **fees}


@settings(deadline=None, max_examples=150)
@given(transactions(), keys)
def test_signed_bytes_are_those_of_eth_account(unsigned: UnsignedTransaction, key: bytes) -> None:
    theirs = Account.sign_transaction(as_peer(unsigned), key)
    ours = transaction.sign(unsigned, SecretKey(key))
    assert (ours.raw, ours.hash) == (bytes(theirs.raw_transaction), theirs.hash.to_0x_hex())
    assert Account.recover_transaction(ours.raw) == SecretKey(key).address()
    assert transaction.check_signed(ours.raw, unsigned, SecretKey(key).address()) == ours


@settings(deadline=None, max_examples=150)
@given(transactions(), keys, keys, st.data())
def test_another_transaction_does_not_pass(
    unsigned: UnsignedTransaction, key: bytes, other: bytes, data: st.DataObject
) -> None:
    address = SecretKey(key).address()
    wanted = data.draw(transactions().filter(lambda found: found != unsigned))
    signed = transaction.sign(wanted, SecretKey(key))
    if wanted.is_legacy and unsigned.is_legacy and replace(wanted, tip_units=unsigned.tip_units) == unsigned:
        return  # a legacy transaction has no tip
    with pytest.raises(ValueError, match=WRONG):
        transaction.check_signed(signed.raw, unsigned, address)
    if other != key:
        with pytest.raises(ValueError, match="wallet's key"):
            transaction.check_signed(transaction.sign(unsigned, SecretKey(other)).raw, unsigned, address)


@settings(deadline=None, max_examples=200)
@given(transactions(), keys, st.integers(0, 400), st.integers(1, 255))
def test_a_changed_byte_does_not_pass(unsigned: UnsignedTransaction, key: bytes, at: int, by: int) -> None:
    raw = bytearray(transaction.sign(unsigned, SecretKey(key)).raw)
    raw[at % len(raw)] ^= by
    with pytest.raises(ValueError, match=WRONG):
        transaction.check_signed(bytes(raw), unsigned, SecretKey(key).address())


def test_the_twin_with_a_high_s_does_not_pass() -> None:
    key = SecretKey(b"\x07" * 32)
    unsigned = UnsignedTransaction(1, 0, None, 0, b"", 21_000, 10, 1)
    r, s, parity = key.sign(transaction.digest_of(unsigned))
    twin = transaction.assemble(unsigned, r, CURVE_ORDER - s, 1 - parity)
    assert Account.recover_transaction(twin.raw) == key.address()  # the mathematics allow it, EIP-2 does not
    with pytest.raises(ValueError, match=WRONG):
        transaction.check_signed(twin.raw, unsigned, key.address())


@pytest.mark.parametrize(
    "change",
    [{"nonce": -1}, {"nonce": 2**64 - 1}, {"chain_id": 0}, {"value_units": 2**256}, {"tip_units": 11}, {"to": "0x12"}],
)
def test_a_field_out_of_range_is_never_signed(change: dict[str, Any]) -> None:
    unsigned = replace(UnsignedTransaction(1, 0, None, 0, b"", 21_000, 10, 1), **change)
    with pytest.raises(Bug):
        transaction.digest_of(unsigned)


items: st.SearchStrategy[Any] = st.recursive(st.binary(max_size=70), lambda inner: st.lists(inner, max_size=4))


@settings(deadline=None)
@given(items)
def test_rlp_is_that_of_its_peer(item: Any) -> None:
    assert transaction.encode(item) == peer.encode(item)
    assert transaction.decode(transaction.encode(item)) == item


@settings(deadline=None, max_examples=400)
@given(st.binary(max_size=12))
def test_what_rlp_decodes_has_one_encoding(data: bytes) -> None:
    try:
        found = transaction.decode(data)
    except ValueError:
        with pytest.raises(peer.exceptions.DecodingError):
            peer.decode(data)
    else:
        assert transaction.encode(found) == data


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=200), keys)
def test_messages_are_signed_as_eth_account_does(message: bytes, key: bytes) -> None:
    from eth_account.messages import encode_defunct

    digest = digest_of_message(message)
    r, s, parity = SecretKey(key).sign(digest)
    assert join_signature(r, s, parity) == bytes(Account.sign_message(encode_defunct(message), key).signature)
    assert find_signer(digest, r, s, parity) == SecretKey(key).address()


def test_a_wiped_key_signs_nothing_and_shows_nothing() -> None:
    key = SecretKey(b"\x07" * 32)
    assert repr(key) == "SecretKey(***)"
    key.wipe()
    for use in (lambda: key.sign(bytes(32)), key.address):
        with pytest.raises(Bug):
            use()
    assert key.reveal() == bytes(32)


@pytest.mark.parametrize("bad", [bytes(32), CURVE_ORDER.to_bytes(32, "big"), b"\xff" * 32, b"\x01" * 31, b"\x01" * 33])
def test_numbers_that_are_no_keys(bad: bytes) -> None:
    with pytest.raises(ValueError, match="from 1 to the order"):
        SecretKey(bad)
