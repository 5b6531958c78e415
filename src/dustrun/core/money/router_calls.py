"""What swap router methods take from the caller and whom they pay, decoded from calldata that a person wrote, so that
it counts like the swap actions' own calls. Uniswap V2 and V3, and routers with the same methods.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any, Final

from dustrun.core.evm.abi import AbiFault, Function
from dustrun.core.evm.abi_signatures import parse_function
from dustrun.core.evm.calls import read_selector, selector_of
from dustrun.core.money.intent import Movement
from dustrun.core.money.token_calls import InnerCall, Unread, inner_calls
from dustrun.core.values.addresses import checksum
from dustrun.core.values.amounts import Asset
from dustrun.records import dataclass

_IN, _OUT = "(uint256 units, uint256 least,", "(uint256 wanted, uint256 units,"
_TAIL = "address[] path, address payee, uint256 deadline)"
_SINGLE = "exactInputSingle((address token, address out, uint24 fee, address payee,"
_SINGLE_OUT = "exactOutputSingle((address token, address out, uint24 fee, address payee,"
_FEES = "SupportingFeeOnTransferTokens"
_SIGNATURES: Final = (
    f"swapExactTokensForTokens{_IN} {_TAIL}",
    f"swapExactTokensForTokens{_FEES}{_IN} {_TAIL}",
    f"swapTokensForExactTokens{_OUT} {_TAIL}",
    f"swapExactTokensForETH{_IN} {_TAIL}",
    f"swapExactTokensForETH{_FEES}{_IN} {_TAIL}",
    f"swapTokensForExactETH{_OUT} {_TAIL}",
    f"swapExactETHForTokens(uint256 least, {_TAIL}",
    f"swapExactETHForTokens{_FEES}(uint256 least, {_TAIL}",
    f"swapETHForExactTokens(uint256 wanted, {_TAIL}",
    f"swapExactTokensForTokens{_IN} address[] path, address payee)",  # SwapRouter02, which has no deadlines
    f"swapTokensForExactTokens{_OUT} address[] path, address payee)",
    "addLiquidity(address token, address token2, uint256 units, uint256 units2, uint256 least, uint256 least2, "
    "address payee, uint256 deadline)",
    "addLiquidityETH(address token, uint256 units, uint256 least, uint256 least2, address payee, uint256 deadline)",
    f"{_SINGLE} uint256 deadline, uint256 units, uint256 least, uint160 limit) params)",
    f"{_SINGLE} uint256 units, uint256 least, uint160 limit) params)",
    f"{_SINGLE_OUT} uint256 deadline, uint256 wanted, uint256 units, uint160 limit) params)",
    f"{_SINGLE_OUT} uint256 wanted, uint256 units, uint160 limit) params)",
    "exactInput((bytes path, address payee, uint256 deadline, uint256 units, uint256 least) params)",
    "exactInput((bytes path, address payee, uint256 units, uint256 least) params)",
    "exactOutput((bytes path, address payee, uint256 deadline, uint256 wanted, uint256 units) params)",
    "exactOutput((bytes path, address payee, uint256 wanted, uint256 units) params)",
    "pull(address token, uint256 units)",
    "unwrapWETH9(uint256 least)",  # SwapRouter02: to the caller
    "unwrapWETH9(uint256 least, address payee)",
    "unwrapWETH9WithFee(uint256 least, address payee, uint256 bips, address payee2)",
    "sweepToken(address left, uint256 least)",
    "sweepToken(address left, uint256 least, address payee)",
    "sweepTokenWithFee(address left, uint256 least, address payee, uint256 bips, address payee2)",
)
_ADDRESS_BYTES: Final = 20
_SWEEPS: Final = ("unwrapWETH9", "sweepToken")


@functools.cache
def _methods() -> Mapping[str, Function]:
    return {read_selector(function.signature): function for function in map(parse_function, _SIGNATURES)}


@dataclass(frozen=True, slots=True)
class RouterCall:
    """A call as it would be signed: sender and native value; `wrapped` is the chain's wrapped native token."""

    chain_id: int
    sender: str
    to: str
    value_units: int
    data: bytes
    wrapped: str | None


@dataclass(frozen=True, slots=True)
class _Use:
    pulls: tuple[tuple[str, int], ...]
    payees: tuple[str, ...]


def router_movements(call: RouterCall) -> list[Movement]:
    """The tokens that leave the sender through a router method, in favour of the final payee. Further payees
    are listed with an amount of 0, so that they are judged too. Raises `Unread`.
    """
    uses = [use for inner in _calls_of(call) if (use := _read(inner)) is not None]
    totals: dict[str, int] = {}
    for token, units in (pull for use in uses for pull in use.pulls):
        totals[token] = totals.get(token, 0) + units
    if call.wrapped is not None and totals.get(checksum(call.wrapped), call.value_units + 1) <= call.value_units:
        del totals[checksum(call.wrapped)]  # paid by the native value of the call
    own = {checksum(call.sender), checksum(call.to), *(checksum(f"0x{number:040x}") for number in range(3))}
    payees = list(dict.fromkeys(payee for use in uses for payee in use.payees if payee not in own))
    counterparty = payees[0] if payees else checksum(call.to)
    found = [Movement("send", Asset(call.chain_id, token), units, counterparty) for token, units in totals.items()]
    asset = found[0].asset if found else Asset(call.chain_id)
    return found + [Movement("send", asset, 0, payee) for payee in (payees[1:] if found else payees)]


def is_router_method(selector: str) -> bool:
    """Whether a selector is of one of these methods."""
    return selector in _methods()


def payees_of(call: InnerCall) -> tuple[str, ...]:
    """Whom a router method pays; empty for other methods. Raises `Unread`."""
    use = _read(call)
    return () if use is None else use.payees


@dataclass(frozen=True, slots=True)
class UnclaimedOutput:
    """An output that no call takes to the wallet: whom `method` pays, and to whom later calls sweep enough of it."""

    method: str
    payee: str
    swept_to: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Step:
    """A router call as far as payees matter: what it promises at least, and the token that it pays out or sweeps."""

    function: Function
    payee: str | None
    least: int
    token: str | None

    @property
    def sweeps(self) -> bool:
        """Whether it only moves what the router holds."""
        return self.function.name.startswith(_SWEEPS)


def unclaimed(to: str, data: bytes, sender: str | None) -> list[UnclaimedOutput]:
    """The outputs that a call leaves with the router or at an address that routers read as a code (0x0, 0x1, 0x2: what
    they mean differs from router to router), unless a later call of the same transaction takes at least the promised
    amount, and more than nothing, to the wallet. Raises `Unread`.
    """
    calls = [InnerCall(to, 0, data), *inner_calls(to, data)]
    steps = [(call.to, step) for call in calls if (step := _step(call)) is not None]
    found = []
    for place, (router, step) in enumerate(steps):
        if step.payee not in _nobody(router):
            continue
        later = [other for at, other in steps[place + 1 :] if at.lower() == router.lower() and other.sweeps]
        payees = [_swept_to(other, step, sender) for other in later] if not step.sweeps else []
        swept = tuple(payee for payee in payees if payee is not None and payee not in _nobody(router))
        if sender is None or checksum(sender) not in swept:
            found.append(UnclaimedOutput(step.function.signature, step.payee or "", swept))
    return found


def _swept_to(sweep: _Step, swap: _Step, sender: str | None) -> str | None:
    """Whom a sweep pays, if it takes what a swap promised. Without a promise any amount above nothing will do."""
    is_of_it = sweep.token is None or swap.token is None or sweep.token == swap.token
    if not is_of_it or sweep.least < max(1, swap.least):
        return None
    return sweep.payee if sweep.payee is not None else sender and checksum(sender)


def _nobody(router: str) -> set[str]:
    return {checksum(router), *(checksum(f"0x{number:040x}") for number in range(3))}


def _step(call: InnerCall) -> _Step | None:
    found = _values_of(call)
    if found is None:
        return None
    function, values = found
    token = values.get("left") or values.get("out")
    path = values.get("path")
    if path and function.name.startswith("exact"):
        token = _token_at(path, is_last=function.name != "exactOutput")
    elif path:
        token = str(path[-1])
    return _Step(function, values.get("payee"), values.get("least") or values.get("wanted") or 0, token)


def _calls_of(call: RouterCall) -> Iterator[InnerCall]:
    yield InnerCall(call.to, 0, call.data)
    yield from (inner for inner in inner_calls(call.to, call.data) if inner.to.lower() == call.to.lower())


def _values_of(call: InnerCall) -> tuple[Function, dict[str, Any]] | None:
    function = _methods().get(selector_of(call.data) or "")
    if function is None:
        return None
    try:
        return function, _named(function, call.data)
    except AbiFault as fault:
        raise Unread(f"its arguments do not match {function.signature}: {fault.message}") from None


def _read(call: InnerCall) -> _Use | None:
    found = _values_of(call)
    if found is None:
        return None
    function, values = found
    payees = tuple(values[name] for name in ("payee", "payee2") if name in values)
    return _Use(tuple(_pulls(function, values)), payees)


def _named(function: Function, data: bytes) -> dict[str, Any]:
    values = function.decode_args(data)
    params = function.inputs
    if params[0].parts:  # V3 takes one struct
        params, values = params[0].parts, values[0]
    return {param.name: value for param, value in zip(params, values, strict=True)}


def _pulls(function: Function, values: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    token = values["token"] if "token" in values else _first(function, values.get("path"))
    if token is not None and values.get("units"):
        yield token, values["units"]
    if values.get("units2"):
        yield values["token2"], values["units2"]


def _first(function: Function, path: Any) -> str | None:
    """The input token: V2 has a list, V3 packed bytes, in reverse order when the output amount is exact."""
    if isinstance(path, list):
        return str(path[0]) if path else None
    return _token_at(path, is_last=function.name == "exactOutput")


def _token_at(path: Any, *, is_last: bool) -> str | None:
    """The first or last token of V3's packed bytes."""
    packed = bytes.fromhex(path[2:]) if path else b""
    if len(packed) < _ADDRESS_BYTES:
        return None
    found = packed[-_ADDRESS_BYTES:] if is_last else packed[:_ADDRESS_BYTES]
    return checksum(f"0x{found.hex()}")
