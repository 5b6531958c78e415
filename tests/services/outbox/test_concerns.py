"""What a person has to look at whatever the policy allows: proxies that have changed. Names of known contracts."""

from __future__ import annotations

from typing import Any

import pytest

from dustrun.core.evm.abi_signatures import parse_function
from dustrun.core.money.intent import Intent, Movement
from dustrun.core.values.addresses import checksum, keccak256
from dustrun.core.values.amounts import Asset
from dustrun.services.outbox.concerns import look_ahead
from outbox import ALICE, ANYTHING, Outbox, address
from testkit.chain.anvil import CHAIN_ID

PROXY = address(77)
IMPLEMENTATION = "0x360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbc"
BEACON = "0xa3f0ad74e5423aebfd80d3ef4346578335a9a72aeaee59ff6cb3582b35133d50"


def call(item: str = "main") -> Intent:
    """A call that the proxy accepts whatever it is."""
    return Intent(item, CHAIN_ID, PROXY, 0, bytes.fromhex("d09de08a"), (), "Count", method="increment()")


def point(outbox: Outbox, at: str, slot: str = IMPLEMENTATION, of: str = PROXY) -> None:
    outbox.node.rpc("anvil_setCode", PROXY, "0x00")
    outbox.node.rpc("anvil_setStorageAt", of, slot, "0x" + at[2:].lower().rjust(64, "0"))


async def paid(outbox: Outbox, path: str, intent: Intent | None = None) -> None:
    outbox.node.set_automine(True)
    await outbox.pay(path, intent or call())
    outbox.node.mine(3)
    await outbox.settled(path)
    outbox.node.set_automine(False)


async def question(outbox: Outbox, path: str) -> dict[str, Any]:
    items = (await outbox.composition.owner.get("/v1/approvals?status=pending")).data["items"]
    (found,) = [one for one in items if one["path"] == path]
    return dict(found)


@pytest.mark.parametrize("is_beacon", [False, True])
async def test_a_proxy_that_has_changed_asks_and_what_was_accepted_is_remembered(
    outbox: Outbox, is_beacon: bool
) -> None:
    first, second, third = address(81), address(82), address(83)
    if is_beacon:
        for at in (first, second, third):  # each a beacon that names no implementation, and so stands for itself
            outbox.node.rpc("anvil_setCode", at, "0x00")
    slot = BEACON if is_beacon else IMPLEMENTATION
    point(outbox, first, slot)
    await paid(outbox, "one")
    await paid(outbox, "again")

    point(outbox, second, slot)
    name = {"name": "Counter", "kind": "test"}
    assert (await outbox.composition.owner.put(f"/v1/contracts/{CHAIN_ID}/{PROXY}", name)).status == 200
    status = await outbox.pay("two", call())
    assert (status.status, status.waits_for, status.is_signed) == ("open", "approval", False)
    asked = await question(outbox, "two")
    assert f'{PROXY} ("Counter")' in asked["message"]
    assert f"now carried out by {checksum(second)}, and before by {checksum(first)}" in asked["message"]

    point(outbox, third, slot)  # between the question and its answer
    other = await outbox.composition.client_with("approval:decide")
    assert (await other.post(f"/v1/approvals/{asked['id']}/approve")).status == 200
    status = await outbox.outbox.advance(outbox.request("two"))
    assert (status.waits_for, status.is_signed) == ("approval", False)
    anew = await question(outbox, "two")
    assert checksum(third) in anew["message"]
    assert (await other.post(f"/v1/approvals/{anew['id']}/approve")).status == 200
    outbox.node.set_automine(True)
    assert (await outbox.outbox.advance(outbox.request("two"))).is_signed
    outbox.node.mine(3)
    await outbox.settled("two")
    await paid(outbox, "three")


ALLOW = parse_function("approve(address spender, uint256 amount)")
AGGREGATE = parse_function("aggregate((address to, bytes data)[] calls)")


def allows(units: int) -> Intent:
    """An allowance of a token for the proxy."""
    token = address(86)
    moved = (Movement("approve", Asset(CHAIN_ID, token), units, PROXY),)
    return Intent("main", CHAIN_ID, token, 0, ALLOW.encode(PROXY, units), moved, "Allow")


def nested() -> Intent:
    """A call of the proxy through another contract."""
    return Intent("main", CHAIN_ID, address(87), 0, AGGREGATE.encode([[PROXY, "0xd09de08a"]]), (), "Call all")


@pytest.mark.parametrize("intent", [allows(5), nested()], ids=["spender", "nested"])
async def test_a_proxy_behind_an_allowance_or_a_nested_call_is_looked_at_too(outbox: Outbox, intent: Intent) -> None:
    policy = {"policy": {**ANYTHING, "allowUnpricedAssets": True}}
    assert (await outbox.composition.owner.put(f"/v1/wallets/{outbox.wallet_id}/policy", policy)).status == 200
    for at in (address(86), address(87)):
        outbox.node.rpc("anvil_setCode", at, "0x00")
    point(outbox, address(81))
    await paid(outbox, "one", intent)
    await paid(outbox, "again", intent)
    point(outbox, address(82))
    assert (await outbox.pay("two", intent)).waits_for == "approval"
    asked = await question(outbox, "two")
    assert f"{PROXY} is a proxy, and has changed" in asked["message"]
    if intent.movements:
        await paid(outbox, "revoked", allows(0))
    nobody: Any = None  # no chain is untouched, so no price is asked for
    simulated = await look_ahead(outbox.outbox.deps, outbox.org_id, ALICE, [intent], nobody, ())
    assert [one.statement for one in simulated[0]] == ["proxyChanged"]


async def test_contracts_are_named_and_forgotten(outbox: Outbox) -> None:
    api, place = outbox.composition.owner, f"/v1/contracts/{CHAIN_ID}/{PROXY}"
    assert (await api.put(place, {"name": "Counter"})).data["address"] == PROXY
    assert [one["name"] for one in (await api.get("/v1/contracts")).data["items"]] == ["Counter"]
    assert (await api.get("/v1/contracts?chainId=1")).data["items"] == []
    assert "Permit2" in {one["name"] for one in (await api.get(f"/v1/contracts/{CHAIN_ID}/bundled")).data}
    assert "Uniswap V2 router" in {one["name"] for one in (await api.get("/v1/contracts/1/bundled")).data}
    assert (await api.put("/v1/contracts/1/0x12", {"name": "x"})).fields == ["address"]
    assert (await api.put("/v1/contracts/987654/" + PROXY, {"name": "x"})).status == 400
    spender = await outbox.composition.client_with("wallet:write", "wallet:spend", "wallet:read")
    assert (await spender.put(place, {"name": "Mine"})).status == 403
    assert (await api.delete(place)).data["name"] == "Counter"
    assert (await api.delete(place)).code == 404_041


async def test_the_methods_of_an_abi_are_looked_for_in_the_code(outbox: Outbox) -> None:
    api, rpc = outbox.composition.owner, outbox.node.rpc
    plain, behind, minimal, wallet = address(90), address(91), address(92), address(93)
    abi = [
        {"type": "function", "name": name, "inputs": [{"name": "x", "type": kind}], "outputs": []}
        for name, kind in (("transfer", "address"), ("sweep", "uint256"))
    ] + [{"type": "event", "name": "Swept", "inputs": []}]
    has, lacks = "0x63" + selector("sweep(uint256)"), "0x63" + selector("transfer(address)")
    rpc("anvil_setCode", plain, has)
    rpc("anvil_setCode", behind, lacks)
    rpc("anvil_setCode", minimal, "0x363d3d373d3d3d363d73" + behind[2:].lower() + "5af43d82803e903d91602b57fd5bf3")

    async def unknown(at: str, **said: Any) -> Any:
        reply = await api.put(f"/v1/contracts/{CHAIN_ID}/{at}", {"name": "c", **said})
        return reply.data["unknownMethods"] if reply.status == 200 else (reply.status, reply.fields)

    assert await unknown(plain) is None
    assert await unknown(plain, abi=abi) == ["transfer(address)"]
    assert await unknown(minimal, abi=abi) == ["sweep(uint256)"]
    assert await unknown(wallet, abi=abi) == (400, ["abi"])
    assert await unknown(wallet) is None, "a name needs no code"
    point(outbox, behind)
    assert await unknown(PROXY, abi=abi) == ["sweep(uint256)"]
    point(outbox, plain)
    assert await unknown(PROXY, abi=abi) == ["transfer(address)"]
    found = {one["address"]: one["unknownMethods"] for one in (await api.get("/v1/contracts")).data["items"]}
    assert found == {
        plain: ["transfer(address)"],
        minimal: ["sweep(uint256)"],
        wallet: None,
        PROXY: ["transfer(address)"],
    }
    broken = [{"type": "function", "name": "f", "inputs": [{"name": "x", "type": "nonsense"}]}]
    assert await unknown(plain, abi=broken) == (400, ["abi"])


def selector(signature: str) -> str:
    return keccak256(signature.encode())[:4].hex()
