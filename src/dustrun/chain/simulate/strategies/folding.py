"""Earlier transactions of `eth_simulateV1` as state overrides, instead of blocks that repeat them.

`debug_traceCall` reports what a transaction changed, with the block, gas price and base fee of the simulated one. A
transaction is folded only if both leave its sender the same balance, which contains the fee and so the gas.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from dustrun.chain import wire
from dustrun.chain.rpc import RpcRequest
from dustrun.chain.simulate.fork import Fork, Step

Json = dict[str, Any]
DIFF_TRACER: Final = {"tracer": "prestateTracer", "tracerConfig": {"diffMode": True}}
_NOTHING: Final = f"0x{'0' * 64}"


class FoldedState:
    """The changes of a fork's first `count` steps, as state overrides (`state`)."""

    def __init__(self) -> None:
        self.state: Json = {}
        self.count = 0

    def trace(self, fork: Fork, step: Step, fields: Json, state: Mapping[str, Any]) -> RpcRequest:
        """Asks what the step that follows changes; `fields` is its call, `state` its own overrides."""
        at = {"number": hex(step.number), "time": hex(step.time), "baseFeePerGas": "0x0"}
        options = {"stateOverrides": layered(self.state, state), "blockOverrides": at}
        return RpcRequest("debug_traceCall", (fields, {"blockHash": fork.hash}, {**DIFF_TRACER, **options}))

    def add(self, step: Step, diff: Mapping[str, Any]) -> None:
        """Folds the step that follows."""
        state = merged(self.state, diff)
        if step.runtime is not None and step.creates is not None:
            state = layered(state, {step.creates: {"code": wire.hexed(step.runtime), "nonce": "0x1"}})
        self.state, self.count = state, self.count + 1

    def add_checked(self, step: Step, diff: Mapping[str, Any], owner_units: int | None) -> None:
        """Folds the step that follows if its trace leaves the sender `owner_units`."""
        if owner_units is not None and _balance_in(merged({}, diff), step.sender) == owner_units:
            self.add(step, diff)

    def agrees(self, owners: Sequence[str], units: Sequence[int | None]) -> bool:
        """Whether the folded state has these native balances."""
        return all(_balance_in(self.state, owner) == has for owner, has in zip(owners, units, strict=True))


def layered(state: Mapping[str, Any], more: Mapping[str, Any]) -> Json:
    """Overrides with other ones on top, account by account."""
    found = dict(state)
    for name, fields in more.items():
        address = name.lower()
        found[address] = {**found.get(address, {}), **fields}
    return found


def merged(state: Mapping[str, Any], diff: Mapping[str, Any]) -> Json:
    """Applies a state diff to overrides. A slot missing in `post` became zero; an account missing in `post` was
    destroyed."""
    pre, post = diff.get("pre") or {}, diff.get("post") or {}
    found = dict(state)
    for name in {*pre, *post}:
        address = name.lower()
        if name not in post:
            found[address] = {"balance": "0x0", "nonce": "0x0", "code": "0x", "state": {}}
            continue
        account = _copied(found.get(address, {}))
        _merge(account, pre.get(name) or {}, post.get(name) or {})
        found[address] = account
    return {address: account for address, account in found.items() if account}


def _copied(account: Mapping[str, Any]) -> Json:
    return {name: dict(value) if isinstance(value, dict) else value for name, value in account.items()}


def _merge(account: Json, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    for name in ("balance", "code"):
        if name in after:
            account[name] = after[name]
    if "nonce" in after:
        nonce = after["nonce"]
        account["nonce"] = hex(nonce) if isinstance(nonce, int) else nonce
    slots = dict.fromkeys(before.get("storage") or {}, _NOTHING) | dict(after.get("storage") or {})
    if slots:
        kept = "state" if "state" in account else "stateDiff"
        account.setdefault(kept, {}).update(slots)


def _balance_in(state: Mapping[str, Any], owner: str) -> int | None:
    balance = state.get(owner.lower(), {}).get("balance")
    return None if balance is None else int(balance, 16)
