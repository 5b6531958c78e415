"""What calldata of well-known methods moves, read from the calldata itself: whoever builds a call may forget to say so,
the ledger must not."""

from __future__ import annotations

from dustrun.core.addresses import checksum
from dustrun.core.amounts import MAX_UINT256, Asset
from dustrun.core.intent import Movement, MovementKind
from dustrun.core.selectors import selector_of

TRANSFER = "0xa9059cbb"
APPROVE = "0x095ea7b3"
TRANSFER_FROM = "0x23b872dd"
INCREASE_ALLOWANCE = "0x39509351"
SET_APPROVAL_FOR_ALL = "0xa22cb465"
SAFE_TRANSFER_FROM = "0x42842e0e"
SAFE_TRANSFER_FROM_WITH_DATA = "0xb88d4fde"

OF_TOKENS = frozenset({TRANSFER, APPROVE, INCREASE_ALLOWANCE})
"""Methods of a token itself that a policy judges by what they move, not by contract and method."""

_TWO_WORDS: dict[str | None, MovementKind] = {TRANSFER: "send", APPROVE: "approve", INCREASE_ALLOWANCE: "approve"}
_OF_PIECES = frozenset({SAFE_TRANSFER_FROM, SAFE_TRANSFER_FROM_WITH_DATA})


def implied_movement(chain_id: int, to: str, data: bytes) -> Movement | None:
    """What a call of a token's well-known method moves; None for every other call.

    An ERC-721's methods share selectors with an ERC-20's, and there the number of the piece stands where an amount
    would; `safeTransferFrom` is of an ERC-721 alone and moves one piece.
    """
    selector = selector_of(data)
    asset = Asset(chain_id, checksum(to))
    if selector in _TWO_WORDS and len(data) >= 68:
        return Movement(_TWO_WORDS[selector], asset, _word(data, 1), _address(data, 0))
    if selector == SET_APPROVAL_FOR_ALL and len(data) >= 68:
        return Movement("approve", asset, MAX_UINT256 if _word(data, 1) else 0, _address(data, 0))
    if selector == TRANSFER_FROM and len(data) >= 100:
        return Movement("send", asset, _word(data, 2), _address(data, 1))
    if selector in _OF_PIECES and len(data) >= 100:
        return Movement("send", asset, 1, _address(data, 1))
    return None


def _word(data: bytes, index: int) -> int:
    return int.from_bytes(data[4 + 32 * index : 36 + 32 * index])


def _address(data: bytes, index: int) -> str:
    return checksum(f"0x{data[16 + 32 * index : 36 + 32 * index].hex()}")
