from __future__ import annotations

import base64
import hashlib
from decimal import Decimal
from typing import Any

import pytest

from dustrun.actions.data.hash import Input, hash_value
from dustrun.errors import Invalid
from dustrun.sdk.testing import perform


async def run(value: Any, **payload: Any) -> str:
    found: str = (await perform(hash_value, {"value": value, **payload}))["hash"]
    return found


@pytest.mark.parametrize(
    ("algorithm", "digest"),
    [
        ("sha256", hashlib.sha256(b"\xc3\xa9").hexdigest()),
        ("sha384", hashlib.sha384(b"\xc3\xa9").hexdigest()),
        ("sha512", hashlib.sha512(b"\xc3\xa9").hexdigest()),
        ("sha3-256", hashlib.sha3_256(b"\xc3\xa9").hexdigest()),
        ("sha1", hashlib.sha1(b"\xc3\xa9").hexdigest()),
        ("md5", hashlib.md5(b"\xc3\xa9").hexdigest()),
    ],
)
async def test_a_text_is_hashed_as_utf8(algorithm: str, digest: str) -> None:
    assert await run("é", algorithm=algorithm) == digest


async def test_keccak_is_that_of_chains() -> None:
    """The topic of an ERC-20 Transfer event."""
    topic = "ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
    assert await run("Transfer(address,address,uint256)", algorithm="keccak256") == topic


async def test_equal_objects_have_equal_hashes() -> None:
    left, right = {"b": Decimal("0.10"), "a": 2**70}, {"a": 2**70, "b": Decimal("0.10")}
    assert await run(left) == await run(right) == await run('{"a":1180591620717411303424,"b":0.10}')


async def test_bytes_are_read_as_they_are_spelt() -> None:
    expected = hashlib.sha256(b"\x00\xff").hexdigest()
    for text, encoding in (("00ff", "hex"), ("0x00FF", "hex"), ("AP8=", "base64"), ("AP8", "base64")):
        assert await run(text, inputEncoding=encoding) == expected
    assert await run("-_8", inputEncoding="base64") == hashlib.sha256(base64.b64decode("+/8=")).hexdigest()


async def test_the_result_is_written_as_asked() -> None:
    digest = hashlib.sha256(b"abc").digest()
    assert await run("abc", encoding="base64") == base64.b64encode(digest).decode()
    assert await run("abc", encoding="base64url") == base64.urlsafe_b64encode(digest).decode().rstrip("=")


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        ({"value": "0x0", "inputEncoding": "hex"}, "value"),
        ({"value": "a*b=", "inputEncoding": "base64"}, "value"),
        ({"value": "é", "inputEncoding": "base64"}, "value"),
    ],
)
async def test_what_is_not_in_its_encoding_is_refused(payload: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as caught:
        await perform(hash_value, payload)
    assert caught.value.public_details()[0]["field"] == f"payload.{field}"


def test_keys_are_not_for_inputs_which_are_kept() -> None:
    assert "key" not in Input.model_fields
