from __future__ import annotations

from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct
from pydantic import ValidationError

from actions.evm.conftest import Scene
from dustrun.actions.evm.sign_message import sign_message
from dustrun.sdk.testing import intents, perform


async def sign(scene: Scene, **payload: Any) -> dict[str, Any]:
    return await perform(sign_message, payload, scene.ctx, execute=scene.wallet.execute)


@pytest.mark.parametrize("text", ["log me in", "Grüße, 世界", "0xdeadbeef", " ", "a" * 5000])
async def test_the_witness_recovers_the_wallet(scene: Scene, text: str) -> None:
    result = await sign(scene, message=text)
    message = encode_defunct(text=text)
    assert Account.recover_message(message, signature=result["signature"]) == scene.wallet.address == result["signer"]
    parts = (result["v"], result["r"], result["s"])
    assert Account.recover_message(message, vrs=parts) == scene.wallet.address


async def test_bytes_are_signed_as_bytes(scene: Scene) -> None:
    result = await sign(scene, message="0xdeadbeef", encoding="hex")
    message = encode_defunct(hexstr="0xdeadbeef")
    assert Account.recover_message(message, signature=result["signature"]) == scene.wallet.address


async def test_text_can_be_read_and_bytes_cannot(scene: Scene) -> None:
    (text,) = (await intents(sign_message, {"message": "hello"}, scene.ctx)).signatures
    assert (text.payload, text.is_decoded, text.movements, text.chain_id) == ("0x68656c6c6f", True, (), None)
    assert text.about == "Sign the message 'hello'"
    (blind,) = (await intents(sign_message, {"message": "0x" + "12" * 32, "encoding": "hex"}, scene.ctx)).signatures
    assert not blind.is_decoded


async def test_the_hash_is_that_of_the_standard(scene: Scene) -> None:
    from eth_account.messages import _hash_eip191_message

    result = await sign(scene, message="héllo")
    assert result["hash"] == "0x" + _hash_eip191_message(encode_defunct(text="héllo")).hex()


@pytest.mark.parametrize(
    "payload",
    [
        {"message": ""},
        {"message": "0x1", "encoding": "hex"},
        {"message": "hello", "encoding": "hex"},
        {"message": "\ud800"},
    ],
)
async def test_what_cannot_be_signed_is_refused(scene: Scene, payload: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        await sign(scene, **payload)
