"""Decodes events and return values. Events are keyed by topic and number of indexed arguments, since ERC-20 and ERC-721
share the topic of Transfer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from dustrun.core.evm.abi import AbiFault, Event, Param, decode, show, show_all
from dustrun.core.evm.abi_signatures import parse_event, read_json_params
from dustrun.core.money.intent import Log

_KNOWN: Final = """
Transfer(address indexed from, address indexed to, uint256 value)
Transfer(address indexed from, address indexed to, uint256 indexed tokenId)
Approval(address indexed owner, address indexed spender, uint256 value)
Approval(address indexed owner, address indexed approved, uint256 indexed tokenId)
ApprovalForAll(address indexed owner, address indexed operator, bool approved)
TransferSingle(address indexed operator, address indexed from, address indexed to, uint256 id, uint256 value)
TransferBatch(address indexed operator, address indexed from, address indexed to, uint256[] ids, uint256[] values)
Deposit(address indexed dst, uint256 wad)
Withdrawal(address indexed src, uint256 wad)
Sync(uint112 reserve0, uint112 reserve1)
Swap(address indexed sender, uint256 amount0In, uint256 amount1In, uint256 amount0Out, uint256 amount1Out, address indexed to)
Mint(address indexed sender, uint256 amount0, uint256 amount1)
Burn(address indexed sender, uint256 amount0, uint256 amount1, address indexed to)
PairCreated(address indexed token0, address indexed token1, address pair, uint256 index)
Swap(address indexed sender, address indexed recipient, int256 amount0, int256 amount1, uint160 sqrtPriceX96, uint128 liquidity, int24 tick)
PoolCreated(address indexed token0, address indexed token1, uint24 indexed fee, int24 tickSpacing, address pool)
OwnershipTransferred(address indexed previousOwner, address indexed newOwner)
Upgraded(address indexed implementation)
OwnershipTransferStarted(address indexed previousOwner, address indexed newOwner)
AdminChanged(address previousAdmin, address newAdmin)
BeaconUpgraded(address indexed beacon)
Initialized(uint64 version)
Initialized(uint8 version)
RoleGranted(bytes32 indexed role, address indexed account, address indexed sender)
RoleRevoked(bytes32 indexed role, address indexed account, address indexed sender)
RoleAdminChanged(bytes32 indexed role, bytes32 indexed previousAdminRole, bytes32 indexed newAdminRole)
Paused(address account)
Unpaused(address account)
URI(string value, uint256 indexed id)
Deposit(address indexed sender, address indexed owner, uint256 assets, uint256 shares)
Withdraw(address indexed sender, address indexed receiver, address indexed owner, uint256 assets, uint256 shares)
Initialize(uint160 sqrtPriceX96, int24 tick)
Mint(address sender, address indexed owner, int24 indexed tickLower, int24 indexed tickUpper, uint128 amount, uint256 amount0, uint256 amount1)
Burn(address indexed owner, int24 indexed tickLower, int24 indexed tickUpper, uint128 amount, uint256 amount0, uint256 amount1)
Collect(address indexed owner, address recipient, int24 indexed tickLower, int24 indexed tickUpper, uint128 amount0, uint128 amount1)
Flash(address indexed sender, address indexed recipient, uint256 amount0, uint256 amount1, uint256 paid0, uint256 paid1)
IncreaseLiquidity(uint256 indexed tokenId, uint128 liquidity, uint256 amount0, uint256 amount1)
DecreaseLiquidity(uint256 indexed tokenId, uint128 liquidity, uint256 amount0, uint256 amount1)
Collect(uint256 indexed tokenId, address recipient, uint256 amount0, uint256 amount1)
Permit(address indexed owner, address indexed token, address indexed spender, uint160 amount, uint48 expiration, uint48 nonce)
Swap(bytes32 indexed id, address indexed sender, int128 amount0, int128 amount1, uint160 sqrtPriceX96, uint128 liquidity, int24 tick, uint24 fee)
ModifyLiquidity(bytes32 indexed id, address indexed sender, int24 tickLower, int24 tickUpper, int256 liquidityDelta, bytes32 salt)
"""  # noqa: E501

_Key = tuple[bytes, int]


def decode_events(logs: Sequence[Log], abi_events: Sequence[Mapping[str, Any]] = ()) -> tuple[dict[str, Any], ...]:
    """Each event as JSON with raw `topics` and `data`, and `name` and `args` if an ABI entry matches."""
    declared = _declared(abi_events)
    return tuple(_decode(log, declared) for log in logs)


def decode_returned(data: bytes, params: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return values by name or position; None if `data` does not decode as `params`, or there are none."""
    try:
        read = read_json_params(params)
        return show_all(read, decode(read, data)) if read else None
    except AbiFault:
        return None


def _decode(log: Log, declared: Mapping[_Key, list[Event]]) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "address": log.address,
        "topics": [f"0x{topic.hex()}" for topic in log.topics],
        "data": f"0x{log.data.hex()}",
    }
    key = (log.topics[0] if log.topics else b"", len(log.topics) - 1)
    for event in (*declared.get(key, ()), *_known().get(key, ())):
        args = _args(event, log)
        if args is not None:
            return {"name": event.name, "args": args, **shown}
    return shown


def _args(event: Event, log: Log) -> dict[str, Any] | None:
    """The arguments by name, or None if the data does not match. Indexed dynamic types are shown as their hash."""
    topics = iter(log.topics[1:])
    plain = [param for param in event.inputs if not param.indexed]
    try:
        values = iter(decode(plain, log.data))
        return {
            param.name or str(place): _topic(param, next(topics)) if param.indexed else show(param, next(values))
            for place, param in enumerate(event.inputs)
        }
    except AbiFault:
        return None


def _topic(param: Param, topic: bytes) -> Any:
    is_hash = param.kind.dynamic or param.kind.name in ("array", "tuple")
    return f"0x{topic.hex()}" if is_hash else show(param, decode((param,), topic)[0])


def _declared(abi_events: Sequence[Mapping[str, Any]]) -> dict[_Key, list[Event]]:
    found: dict[_Key, list[Event]] = {}
    for entry in abi_events:
        try:
            _add(found, _read(entry))
        except AbiFault:
            continue  # an entry that cannot be read decodes nothing; the log stays raw
    return found


def _read(entry: Mapping[str, Any]) -> Event:
    if "signature" in entry:
        return parse_event(str(entry["signature"]))
    return Event(str(entry.get("name", "")), read_json_params(entry.get("inputs", [])))


def _add(found: dict[_Key, list[Event]], event: Event) -> None:
    found.setdefault((event.topic, sum(param.indexed for param in event.inputs)), []).append(event)


@lru_cache(maxsize=1)
def _known() -> dict[_Key, list[Event]]:
    found: dict[_Key, list[Event]] = {}
    for line in _KNOWN.split("\n"):
        if line:
            _add(found, parse_event(line))
    return found
