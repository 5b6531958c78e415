"""The topics that the ledger reads are those of the events' signatures."""

from __future__ import annotations

import pytest

from dustrun.core.money import accounting
from dustrun.core.values.addresses import keccak256


@pytest.mark.parametrize(
    ("topic", "signature"),
    [
        (accounting._TRANSFER, "Transfer(address,address,uint256)"),
        (accounting._SINGLE, "TransferSingle(address,address,address,uint256,uint256)"),
        (accounting._BATCH, "TransferBatch(address,address,address,uint256[],uint256[])"),
        (accounting._APPROVAL, "Approval(address,address,uint256)"),
        (accounting._FOR_ALL, "ApprovalForAll(address,address,bool)"),
        (accounting._PERMIT2, "Approval(address,address,address,uint160,uint48)"),
        (accounting._PERMIT2_PERMIT, "Permit(address,address,address,uint160,uint48,uint48)"),
        (accounting._PERMIT2_LOCKDOWN, "Lockdown(address,address,address)"),
    ],
)
def test_a_topic_is_the_hash_of_its_signature(topic: bytes, signature: str) -> None:
    assert topic == keccak256(signature.encode())
