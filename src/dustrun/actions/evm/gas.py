"""How much native coin a transfer of the whole balance leaves for its own fee."""

from __future__ import annotations

from typing import Final

from dustrun.core.evm.abi import AbiFault
from dustrun.core.evm.abi_signatures import parse_function
from dustrun.sdk.chain import Chain, ChainCall
from dustrun.sdk.refusal import refuse

PLAIN_TRANSFER: Final = 21_000
_TO_CONTRACT: Final = 150_000
_ON_ARBITRUM: Final = 1_500_000  # its gas includes the data on L1
_ORACLE: Final = "0x420000000000000000000000000000000000000F"
_DATA_FEE: Final = parse_function("getL1Fee(bytes data) view returns (uint256)")
_TRANSFER: Final = "0x" + bytes(range(1, 121)).hex()  # as long as a signed transfer, and as incompressible


async def transfer_gas(chain: Chain, recipient: str) -> tuple[int, int | None]:
    """Gas to reserve for a native transfer, and the gas limit to send it with (None: estimated)."""
    if chain.network.data_fee == "arbitrum":
        return _ON_ARBITRUM, None
    if await chain.code(recipient):
        return _TO_CONTRACT, None
    return PLAIN_TRANSFER, PLAIN_TRANSFER


async def fee_reserve(chain: Chain, gas: int) -> int:
    """Base units to reserve for that gas: 50 % over the current maximum fee, since fees rise between blocks."""
    fees = await chain.fees()
    return gas * fees.max_fee_units * 3 // 2 + await _data_fee(chain)


async def _data_fee(chain: Chain) -> int:
    """Twice the L1 data fee that an OP-stack chain reports for a transfer."""
    if chain.network.data_fee != "op-stack":
        return 0
    data = await chain.call(ChainCall(_ORACLE, _DATA_FEE.encode(_TRANSFER)))
    try:
        return 2 * int(_DATA_FEE.decode_result(data)[0])
    except AbiFault:
        raise refuse('the chain does not report its data fee; give an amount instead of "max"', "amount") from None
