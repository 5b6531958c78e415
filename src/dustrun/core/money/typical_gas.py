"""Typical gas by action type, for plans made before anything can be estimated.

Measured on real contracts and rounded up; transactions are always estimated on the chain before they are sent.
"""

from __future__ import annotations

from typing import Final

_BY_TYPE: Final = {
    "send-native": 21_000,
    "send-erc20-token": 65_000,
    "send-erc721": 100_000,
    "approve-erc20": 60_000,
    "wrap-native": 50_000,
    "unwrap-native": 50_000,
    "swap-uniswap-v2": 220_000,  # includes its approval
    "swap-uniswap-v3": 260_000,
    "deploy-contract": 1_500_000,
    "sign-message": 0,
    "sign-typed-data": 0,
}
_OTHER: Final = 200_000
_A_ROW: Final = {"batch-transfer": 65_000}


def typical_gas(type: str, amounts: int) -> int:
    """Gas of a node of this type with this many amounts."""
    if type in _A_ROW:
        return _A_ROW[type] * max(1, amounts)
    return _BY_TYPE.get(type, _OTHER)
