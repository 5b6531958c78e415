"""Fees to bid, and the L1 data fee of an L2. Live and simulated chains share them. For a live chain up to three
healthy endpoints are asked, so that one cannot inflate a fee."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from dustrun.chain import wire
from dustrun.chain.endpoints import Endpoint, Endpoints
from dustrun.chain.rpc import EndpointDown, RpcError, RpcRequest
from dustrun.core.evm.abi_signatures import parse_function
from dustrun.core.evm.network import Network
from dustrun.core.values.addresses import keccak256
from dustrun.sdk.chain import Fees

GAS_PRICE: Final = RpcRequest("eth_gasPrice")
LEAST_TIP_UNITS: Final = 1
_MOST_ASKED: Final = 3
_WITHIN_S: Final = 2.0  # seconds; slower endpoints are ignored
# https://docs.optimism.io/op-stack/transactions/fees: the predeploy prices the bytes of an unsigned transaction
OP_STACK_ORACLE: Final = "0x420000000000000000000000000000000000000F"
# https://docs.arbitrum.io/build-decentralized-apps/nodeinterface/reference: not a contract, the node itself answers
ARBITRUM_NODE_INTERFACE: Final = "0x00000000000000000000000000000000000000C8"
_L1_FEE: Final = parse_function("getL1Fee(bytes data) view returns (uint256)")
_L1_GAS: Final = parse_function(
    "gasEstimateL1Component(address to, bool contractCreation, bytes data) view "
    "returns (uint64 gasEstimateForL1, uint256 baseFee, uint256 l1BaseFeeEstimate)"
)
# Incompressible bytes in place of the fields and signature around the calldata, of the same length.
_ENVELOPE: Final = b"".join(keccak256(bytes([place])) for place in range(6))


def history(at: str) -> RpcRequest:
    """The fees of the five blocks up to one (number in hex, or tag)."""
    return RpcRequest("eth_feeHistory", ("0x5", at, [50]))


HISTORY: Final = history("latest")


def from_history(history: Mapping[str, Any]) -> Fees:
    """EIP-1559 from `eth_feeHistory(5, latest, [50])`: twice the next base fee plus the median tip, which covers six
    full blocks in a row.
    """
    base = wire.quantity(history["baseFeePerGas"][-1])
    tip = _median([wire.quantity(row[0]) for row in history.get("reward") or () if row])
    return bid(base, tip)


def bid(base_units: int, tip_units: int) -> Fees:
    """The bid for a base fee of the next block and a tip."""
    tip = max(tip_units, LEAST_TIP_UNITS)
    return Fees(max_fee_units=2 * base_units + tip, tip_units=tip, expected_units=base_units + tip)


def legacy(gas_price: Any) -> Fees:
    """The node's gas price, for a chain without EIP-1559."""
    price = wire.quantity(gas_price)
    return Fees(price, price, price, is_legacy=True)


def _median(values: Sequence[int]) -> int:
    ordered = sorted(values)
    return ordered[len(ordered) // 2] if ordered else 0


def data_fee_call(network: Network, to: str | None, data: bytes) -> tuple[str, bytes] | None:
    """The call that returns a transaction's data fee; None on a chain without one."""
    if network.data_fee == "op-stack":
        return OP_STACK_ORACLE, _L1_FEE.encode(wire.hexed(_ENVELOPE + data))
    if network.data_fee == "arbitrum":
        return ARBITRUM_NODE_INTERFACE, _L1_GAS.encode(to or f"0x{'0' * 40}", to is None, wire.hexed(data))
    return None


def read_data_fee(network: Network, answer: bytes) -> int:
    """Decodes the answer to `data_fee_call`, in base units. On Arbitrum a live gas estimate already includes it; a
    simulation adds it.
    """
    if network.data_fee == "op-stack":
        return int(_L1_FEE.decode_result(answer)[0])
    gas, base_fee, _ = _L1_GAS.decode_result(answer)
    return int(gas) * int(base_fee)


async def ask_several(endpoints: Endpoints, request: RpcRequest) -> list[Any]:
    """The answers of the best endpoints, in order; endpoints without an answer are left out."""
    await endpoints.agree()
    usable = [one for one in endpoints.all if not one.is_resting and one.outlier is None]
    answers = await asyncio.gather(*(_ask(endpoint, request) for endpoint in usable[:_MOST_ASKED]))
    return [answer for answer in answers if answer is not None]


async def _ask(endpoint: Endpoint, request: RpcRequest) -> Any:
    try:
        answer = await endpoint.rpc.call(request, _WITHIN_S)
    except EndpointDown as down:
        endpoint.failed(down)
        return None
    except RpcError:
        return None
    endpoint.worked()
    return answer
