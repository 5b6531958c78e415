"""Detects optional features of an endpoint, once an hour; the result is stored with the endpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final

from dustrun import clock
from dustrun.chain.endpoints import Endpoint, Endpoints
from dustrun.chain.failures import Kind, kind_of
from dustrun.chain.rpc import EndpointDown, RpcError, RpcRequest
from dustrun.records import dataclass

_KEPT_S: Final = 3600.0
_SENDER: Final = "0x00000000000000000000000000000000d0570001"
_TARGET: Final = "0x00000000000000000000000000000000d0570002"
_FORTY_TWO: Final = "0x602a60005260206000f3"  # returns 42
_PAYS: Final = "0x600060006000600060013261fffff100"  # sends one unit to the transaction's origin
_CREATES: Final = "0x600160005360016000f3"  # creates a contract whose code is 01
_WORD_42: Final = f"0x{42:064x}"
_FAR_BLOCK: Final = "0x7fffffffffff"
_NATIVE_LOG: Final = "0xeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"
_FREE: Final = {"maxFeePerGas": "0x0", "maxPriorityFeePerGas": "0x0"}


@dataclass(frozen=True, slots=True)
class Abilities:
    """Supported features of one endpoint; a method that returns a wrong result counts as unsupported."""

    simulate_v1: bool = False
    simulate_creation: bool = False
    trace_transfers: bool = False
    trace_call: bool = False
    call_overrides: bool = False
    block_receipts: bool = False
    skips_blocks: bool = False  # simulates a block far above the newest one without those between

    def public(self) -> dict[str, bool]:
        """As JSON."""
        named = asdict(self)
        return {
            "simulateV1": named["simulate_v1"],
            "simulateCreation": named["simulate_creation"],
            "traceTransfers": named["trace_transfers"],
            "traceCall": named["trace_call"],
            "callOverrides": named["call_overrides"],
            "blockReceipts": named["block_receipts"],
        }


async def abilities_of(endpoint: Endpoint) -> Abilities:
    """The endpoint's features; raises `EndpointDown` when it does not answer."""
    known: Abilities | None = endpoint.abilities
    if known is None or clock.monotonic_s() - endpoint.abilities_at_s > _KEPT_S:
        endpoint.abilities = known = await _ask(endpoint)
        endpoint.abilities_at_s = clock.monotonic_s()
    return known


async def able(endpoints: Endpoints, wanted: Callable[[Abilities], bool]) -> list[Endpoint]:
    """The endpoints with a feature, best first; unreachable ones are skipped."""
    found = []
    await endpoints.agree()
    for endpoint in endpoints.all:
        try:
            if endpoint.outlier is None and wanted(await abilities_of(endpoint)):
                found.append(endpoint)
        except EndpointDown as down:
            endpoint.failed(down)
    return found


def _simulation(call: dict[str, Any], code: str, at: dict[str, Any] | None = None) -> RpcRequest:
    """A simulated call of a target with this `code`, from a sender with a small balance."""
    state = {_SENDER: {"balance": "0xffff"}, _TARGET: {"code": code, "balance": "0xffff"}}
    fields = {"from": _SENDER, "gas": "0x186a0", **_FREE, **call}
    blocks = [{"stateOverrides": state, "calls": [fields]} | ({} if at is None else {"blockOverrides": at})]
    return RpcRequest(
        "eth_simulateV1", ({"blockStateCalls": blocks, "traceTransfers": True, "validation": False}, "latest")
    )


def _requests() -> list[RpcRequest]:
    state = {_TARGET: {"code": _FORTY_TWO}}
    asks = {"from": _SENDER, "to": _TARGET, "gas": "0x186a0"}
    tracer = {"tracer": "callTracer", "tracerConfig": {"withLog": True}, "stateOverrides": state}
    changes = {"tracer": "prestateTracer", "tracerConfig": {"diffMode": True}, "stateOverrides": state}
    return [
        _simulation({"to": _TARGET}, _FORTY_TWO),
        _simulation({"input": _CREATES}, "0x"),
        _simulation({"to": _TARGET, "value": "0x1"}, "0x"),
        _simulation({"to": _TARGET}, _FORTY_TWO, {"number": _FAR_BLOCK}),
        RpcRequest("debug_traceCall", (asks, "latest", tracer)),
        RpcRequest("debug_traceCall", (asks, "latest", changes)),
        RpcRequest("eth_call", (asks, "latest", state)),
        RpcRequest("eth_getBlockReceipts", ("latest",)),
    ]


async def _ask(endpoint: Endpoint) -> Abilities:
    asked = _requests()
    answers = await endpoint.rpc.batch(asked)
    again = [place for place, answer in enumerate(answers) if _is_busy(answer)]
    for place in again:
        answers[place] = await _one(endpoint, asked[place])
    called, created, paid, skipped, traced, changed, overridden, receipts = answers
    return Abilities(
        simulate_v1=_simulated(called) is not None and _simulated(called).get("returnData") == _WORD_42,
        simulate_creation=_is_success(_simulated(created)),
        skips_blocks=_is_success(_simulated(skipped)),
        trace_transfers=_is_success(_simulated(paid)) and _has_native_log(_simulated(paid)),
        trace_call=isinstance(traced, dict)
        and traced.get("output") == _WORD_42
        and isinstance(changed, dict)
        and {"pre", "post"} <= set(changed),
        call_overrides=overridden == _WORD_42,
        block_receipts=isinstance(receipts, list),
    )


async def _one(endpoint: Endpoint, request: RpcRequest) -> Any:
    try:
        return await endpoint.rpc.call(request)
    except RpcError as error:
        return error


def _is_busy(answer: Any) -> bool:
    return isinstance(answer, RpcError) and kind_of(answer) is Kind.BUSY


def _simulated(answer: Any) -> Any:
    """The result of the simulated call; None for any other answer."""
    try:
        return answer[0]["calls"][0]
    except (TypeError, KeyError, IndexError):
        return None


def _is_success(call: Any) -> bool:
    return isinstance(call, dict) and call.get("status") == "0x1"


def _has_native_log(call: dict[str, Any]) -> bool:
    return any(str(log.get("address", "")).lower() == _NATIVE_LOG for log in call.get("logs") or ())
