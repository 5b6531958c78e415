"""How much native coin a plain transfer of everything leaves for its own fee."""

from __future__ import annotations

from typing import Final

from dustrun.core.evm.abi import AbiFault
from dustrun.core.evm.abi_signatures import parse_function
from dustrun.sdk.chain import Chain, ChainCall
from dustrun.sdk.refusal import refuse

PLAIN_TRANSFER: Final = 21_000
_TO_CONTRACT: Final = 150_000
_ON_ARBITRUM: Final = 1_500_000  # its gas counts the data on L1 too
_ORACLE: Final = "0x420000000000000000000000000000000000000F"
_DATA_FEE: Final = parse_function("getL1Fee(bytes data) view returns (uint256)")
_TRANSFER: Final = "0x" + bytes(range(1, 121)).hex()  # as long as a signed transfer, and as hard to compress


async def transfer_gas(chain: Chain, recipient: str) -> tuple[int, int | None]:
    """Gas to set aside for a transfer of native coin, and the limit to send it with (None: estimated)."""
    if chain.network.data_fee == "arbitrum":
        return _ON_ARBITRUM, None
    if await chain.code(recipient):
        return _TO_CONTRACT, None
    return PLAIN_TRANSFER, PLAIN_TRANSFER


async def fee_reserve(chain: Chain, gas: int) -> int:
    """Base units to leave for that much gas: half more than the highest bid now, since fees rise between two blocks."""
    fees = await chain.fees()
    return gas * fees.max_fee_units * 3 // 2 + await _data_fee(chain)


async def _data_fee(chain: Chain) -> int:
    """Twice what an OP-stack chain says that the data of a transfer costs on L1."""
    if chain.network.data_fee != "op-stack":
        return 0
    data = await chain.call(ChainCall(_ORACLE, _DATA_FEE.encode(_TRANSFER)))
    try:
        return 2 * int(_DATA_FEE.decode_result(data)[0])
    except AbiFault:
        raise refuse('the chain does not tell its data fee; give an amount instead of "max"', "amount") from None
