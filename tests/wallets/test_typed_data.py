"""Typed data: the digest of eth_account and, on a real node, its very signature; doubtful documents are refused."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import _hash_eip191_message, encode_typed_data
from hypothesis import given, settings
from hypothesis import strategies as st

from dustrun.core.evm import typed_data
from dustrun.core.values.addresses import checksum
from dustrun.errors import Invalid
from dustrun.wallets.keys import read_key
from dustrun.wallets.local import LocalSigner
from testkit.chain.anvil import ACCOUNTS, KEYS, Anvil

MAIL: dict[str, Any] = {
    "types": {
        "EIP712Domain": [
            {"name": "name", "type": "string"},
            {"name": "version", "type": "string"},
            {"name": "chainId", "type": "uint256"},
            {"name": "verifyingContract", "type": "address"},
        ],
        "Person": [{"name": "name", "type": "string"}, {"name": "wallets", "type": "address[]"}],
        "Mail": [
            {"name": "from", "type": "Person"},
            {"name": "to", "type": "Person[2]"},
            {"name": "contents", "type": "string"},
            {"name": "amount", "type": "uint256"},
            {"name": "delta", "type": "int8"},
            {"name": "tag", "type": "bytes4"},
            {"name": "blob", "type": "bytes"},
            {"name": "urgent", "type": "bool"},
            {"name": "grid", "type": "uint16[2][]"},
        ],
    },
    "primaryType": "Mail",
    "domain": {"name": "Mail", "version": "1", "chainId": 31337, "verifyingContract": "0x" + "cc" * 20},
    "message": {
        "from": {"name": "Cow", "wallets": ["0x" + "ab" * 20]},
        "to": [{"name": "Bob", "wallets": []}, {"name": "Ä✓", "wallets": ["0x" + "00" * 20, ACCOUNTS[0]]}],
        "contents": "Hello, Bob!",
        "amount": str(2**256 - 1),
        "delta": -128,
        "tag": "0xdeadbeef",
        "blob": "0x",
        "urgent": True,
        "grid": [[1, 2], [65535, 0]],
    },
}


def test_the_digest_of_the_standards_own_example() -> None:
    document = {
        "types": {
            "Person": [{"name": "name", "type": "string"}, {"name": "wallet", "type": "address"}],
            "Mail": [
                {"name": "from", "type": "Person"},
                {"name": "to", "type": "Person"},
                {"name": "contents", "type": "string"},
            ],
        },
        "primaryType": "Mail",
        "domain": {
            "name": "Ether Mail",
            "version": "1",
            "chainId": 1,
            "verifyingContract": "0xCcCCccccCCCCcCCCCCCcCcCccCcCCCcCcccccccC",
        },
        "message": {
            "from": {"name": "Cow", "wallet": "0xCD2a3d9F938E13CD947Ec05AbC7FE734Df8DD826"},
            "to": {"name": "Bob", "wallet": "0xbBbBBBBbbBBBbbbBbbBbbbbBBbBbbbbBbBbbBBbB"},
            "contents": "Hello, Bob!",
        },
    }
    expected = "be609aee343fb3c4b28e1df9e632fca64fcfaede20f02e86244efddf30957bd2"  # EIP-712, section "Example"
    assert typed_data.digest_of(document).hex() == expected


@st.composite
def kinds(draw: st.DrawFn, depth: int = 0) -> tuple[str, st.SearchStrategy[Any]]:
    """A type with its values."""
    choice = draw(st.sampled_from(["uint", "int", "address", "bool", "string", "bytes", "fixed", "array"][: 8 - depth]))
    if choice in ("uint", "int"):
        bits = draw(st.integers(1, 32)) * 8
        low, high = (0, 2**bits - 1) if choice == "uint" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        return f"{choice}{bits}", st.integers(low, high).map(lambda n: n if abs(n) < 2**53 else str(n))
    if choice == "fixed":
        size = draw(st.integers(1, 32))
        return f"bytes{size}", st.binary(min_size=size, max_size=size).map(lambda raw: "0x" + raw.hex())
    if choice == "array":
        kind, values = draw(kinds(depth=1))
        size = draw(st.integers(0, 3))
        # eth_account hashes an empty array of fixed length otherwise; nobody has one
        if size:
            return f"{kind}[{size}]", st.lists(values, min_size=size, max_size=size)
        return f"{kind}[]", st.lists(values, max_size=3)
    plain: dict[str, st.SearchStrategy[Any]] = {
        "address": st.binary(min_size=20, max_size=20).map(lambda raw: checksum("0x" + raw.hex())),
        "bool": st.booleans(),
        "string": st.text(max_size=10),
        "bytes": st.binary(max_size=40).map(lambda raw: "0x" + raw.hex()),
    }
    return choice, plain[choice]


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    inner = draw(st.lists(kinds(), min_size=1, max_size=3))
    outer = draw(st.lists(kinds(), min_size=0, max_size=4))
    message = {f"f{index}": draw(values) for index, (_, values) in enumerate(outer)}
    message["inner"] = {f"g{index}": draw(values) for index, (_, values) in enumerate(inner)}
    fields = [{"name": f"f{index}", "type": kind} for index, (kind, _) in enumerate(outer)]
    types = {
        "Outer": [*fields, {"name": "inner", "type": "Inner"}],
        "Inner": [{"name": f"g{index}", "type": kind} for index, (kind, _) in enumerate(inner)],
    }
    domain: dict[str, Any] = {"name": draw(st.text(max_size=5)), "chainId": draw(st.integers(0, 2**53))}
    if draw(st.booleans()):
        domain["salt"] = "0x" + draw(st.binary(min_size=32, max_size=32)).hex()
    return {"types": types, "primaryType": "Outer", "domain": domain, "message": message}


@settings(deadline=None, max_examples=150)
@given(documents())
def test_digests_are_those_of_eth_account(document: dict[str, Any]) -> None:
    theirs = _hash_eip191_message(encode_typed_data(full_message=copy.deepcopy(document)))
    assert typed_data.digest_of(document) == bytes(theirs)


@pytest.fixture(scope="module")
def node() -> Iterator[Anvil]:
    with Anvil() as found:
        yield found


async def _first_key() -> Any:
    return read_key(KEYS[0])


@settings(deadline=None, max_examples=40)
@given(document=st.just(MAIL) | documents())
async def test_signatures_are_those_of_a_node(node: Anvil, document: dict[str, Any]) -> None:
    signature = await LocalSigner(ACCOUNTS[0], _first_key).sign_typed_data(document)
    assert "0x" + signature.hex() == node.rpc("eth_signTypedData_v4", ACCOUNTS[0], document)
    digest = typed_data.digest_of(document)
    assert Account._recover_hash(digest, signature=signature) == ACCOUNTS[0]


Change = Callable[[dict[str, Any]], Any]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda d: d.pop("types"), "types"),
        (lambda d: d.pop("message"), "message"),
        (lambda d: d.update(domain=[]), "domain"),
        (lambda d: d.update(primaryType="Letter"), "primaryType"),
        (lambda d: d.update(primaryType="EIP712Domain"), "primaryType"),
        (lambda d: d["domain"].update(planet="Mars"), "domain.planet"),
        (lambda d: d["domain"].pop("version"), "types.EIP712Domain"),
        (lambda d: d["types"]["EIP712Domain"].reverse(), "types.EIP712Domain"),
        (lambda d: d["types"].update({"uint8": []}), "types.uint8"),
        (lambda d: d["types"].update({"A b": []}), "types.A b"),
        (lambda d: d["types"].update({f"T{n}": [] for n in range(100)}), "types"),
        (lambda d: d["types"]["Person"].append({"name": "name", "type": "bool"}), "types.Person"),
        (lambda d: d["types"]["Person"].append({"name": "x"}), "types.Person[2]"),
        (lambda d: d["types"]["Person"].append({"name": "x", "type": "uint"}), "types.Person[2].type"),
        (lambda d: d["types"]["Person"].append({"name": "x", "type": "uint257"}), "types.Person[2].type"),
        (lambda d: d["types"]["Person"].append({"name": "x", "type": "bytes33"}), "types.Person[2].type"),
        (lambda d: d["types"]["Person"].append({"name": "x", "type": "Planet"}), "types.Person[2].type"),
        (lambda d: d["message"].pop("urgent"), "message.urgent"),
        (lambda d: d["message"].update(hidden=1), "message.hidden"),
        (lambda d: d["message"]["to"].pop(), "message.to"),
        (lambda d: d["message"]["to"][1].update(name=7), "message.to[1].name"),
        (lambda d: d["message"]["to"][1].update(name="\ud800"), "message.to[1].name"),
        (lambda d: d["message"]["from"].update(wallets=["0x12"]), "message.from.wallets[0]"),
        (lambda d: d["message"]["from"].update(wallets=[ACCOUNTS[0].swapcase()[2:]]), "message.from.wallets[0]"),
        (lambda d: d["message"].update(amount=2**256), "message.amount"),
        (lambda d: d["message"].update(amount=-1), "message.amount"),
        (lambda d: d["message"].update(amount=True), "message.amount"),
        (lambda d: d["message"].update(amount="1.5"), "message.amount"),
        (lambda d: d["message"].update(delta=-129), "message.delta"),
        (lambda d: d["message"].update(tag="0xdeadbe"), "message.tag"),
        (lambda d: d["message"].update(blob="0x123"), "message.blob"),
        (lambda d: d["message"].update(urgent="true"), "message.urgent"),
        (lambda d: d["message"].update(grid=[[1]]), "message.grid[0]"),
    ],
)
def test_a_doubtful_document_is_refused_by_field(change: Change, field: str) -> None:
    document = copy.deepcopy(MAIL)
    change(document)
    with pytest.raises(Invalid) as caught:
        typed_data.digest_of(document)
    assert [problem.field for problem in caught.value.details] == [field]  # type: ignore[union-attr]


def test_a_document_without_end_is_refused() -> None:
    value: dict[str, Any] = {"next": []}
    for _ in range(40):
        value = {"next": [value]}
    types = {"Link": [{"name": "next", "type": "Link[]"}]}
    with pytest.raises(Invalid, match="cannot be signed"):
        typed_data.digest_of({"types": types, "primaryType": "Link", "domain": {"name": "x"}, "message": value})
