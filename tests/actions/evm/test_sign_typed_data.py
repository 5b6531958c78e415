from __future__ import annotations

import copy
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data

from actions.evm.conftest import Scene
from dustrun.actions.evm.sign_typed_data import sign_typed_data
from dustrun.core.money.intent import Movement
from dustrun.core.values.amounts import Asset
from dustrun.errors import Invalid
from dustrun.sdk.testing import intents, perform
from testkit.chain.anvil import ACCOUNTS

ME, CAROL = ACCOUNTS[1], ACCOUNTS[2]
PERMIT = [
    {"name": "owner", "type": "address"},
    {"name": "spender", "type": "address"},
    {"name": "value", "type": "uint256"},
    {"name": "nonce", "type": "uint256"},
    {"name": "deadline", "type": "uint256"},
]


def permit(scene: Scene, **message: Any) -> dict[str, Any]:
    return {
        "types": {"Permit": PERMIT},
        "primaryType": "Permit",
        "domain": {"name": "USD Coin", "version": "1", "chainId": 31337, "verifyingContract": scene["usdc"]},
        "message": {"owner": ME, "spender": CAROL, "value": "25000000", "nonce": 0, "deadline": 2**63, **message},
    }


async def sign(scene: Scene, document: Any, **payload: Any) -> dict[str, Any]:
    asked = {"typedData": document, **payload}
    return await perform(sign_typed_data, asked, scene.ctx, execute=scene.wallet.execute)


async def test_a_permit_is_taken_by_its_token(scene: Scene) -> None:
    """The signature is worth something only if the contract on the chain takes it."""
    document = permit(scene)
    result = await sign(scene, document, chainId=31337)
    parts = (result["v"], result["r"], result["s"])
    scene.witness.send("usdc", "permit", ME, CAROL, 25_000_000, 2**63, *parts, sender=CAROL)
    assert scene.witness.allowance("usdc", ME, CAROL) == 25_000_000
    message = encode_typed_data(full_message=scene.wallet.seen[0].signatures[0].payload)
    assert Account.recover_message(message, signature=result["signature"]) == ME == result["signer"]
    assert result["primaryType"] == "Permit"


async def test_a_permit_counts_as_an_approval(scene: Scene) -> None:
    (request,) = (await intents(sign_typed_data, {"typedData": permit(scene)}, scene.ctx)).signatures
    assert request.movements == (Movement("approve", Asset(31337, scene["usdc"]), 25_000_000, CAROL),)
    assert (request.kind, request.chain_id, request.is_decoded) == ("typed-data", 31337, True)
    assert request.about == f"Let {CAROL} spend the token {scene['usdc']}"


async def test_an_unknown_type_is_not_understood(scene: Scene) -> None:
    document = permit(scene)
    document["types"]["Permit"] = [*PERMIT, {"name": "tip", "type": "uint256"}]
    document["message"]["tip"] = 1
    (request,) = (await intents(sign_typed_data, {"typedData": document}, scene.ctx)).signatures
    assert (request.is_decoded, request.movements) == (False, ())
    assert "unknown effect" in request.about


@pytest.mark.parametrize(
    ("change", "field", "message"),
    [
        ({"owner": CAROL}, "message", f"must be signed by {CAROL}"),
        ({"value": str(2**256)}, "message.value", "is out of range for uint256"),
        ({"spender": "0x12"}, "message.spender", "this one has 2"),
        ({"extra": 1}, "message.extra", "would not be signed"),
    ],
)
async def test_what_does_not_fit_is_refused_by_field(
    scene: Scene, change: dict[str, Any], field: str, message: str
) -> None:
    with pytest.raises(Invalid, match=message) as caught:
        await sign(scene, permit(scene, **change))
    assert caught.value.public_details()[0]["field"] == f"payload.typedData.{field}"


async def test_another_chain_than_was_meant_is_refused(scene: Scene) -> None:
    with pytest.raises(Invalid, match="is for chain 31337, the node expects 1") as caught:
        await sign(scene, permit(scene), chainId=1)
    assert caught.value.public_details()[0]["field"] == "payload.typedData.domain.chainId"


async def test_a_document_without_types_is_refused(scene: Scene) -> None:
    document = copy.deepcopy(permit(scene))
    del document["types"]
    with pytest.raises(Invalid, match="must be an object"):
        await sign(scene, document)
