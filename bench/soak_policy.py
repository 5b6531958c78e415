"""What policies let through: generated contracts that give money or authority away, honest calls, pairs of policies.

Every method of the generated contracts takes the wallet's tokens or coins, or hands over authority: each is carried out
on the node first, and only one by which the stranger gains counts as an attack. Then each is asked for under policies
with `"*"`, directly and nested, decoded and not. An attack passes if the policy allows it and the simulated outflow is
within its bounds; that is a failure.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from eth_abi.abi import encode

from dustrun.chain.chains import Chains
from dustrun.chain.simulate.taking import forecast_outflow
from dustrun.core.evm.abi_signatures import parse_function
from dustrun.core.money.intent import Intent, Movement
from dustrun.core.money.policy import Deny, PolicyRequest, VerdictFacts, WalletPolicy, Worth, judge, needs
from dustrun.core.money.policy.document import with_defaults
from dustrun.core.money.policy.outflow import Ceilings, judge_outflow
from dustrun.core.money.policy.scope import find_unproven
from dustrun.core.money.router_calls import RouterCall, router_movements
from dustrun.core.money.token_calls import implied_movements
from dustrun.core.values.addresses import checksum
from dustrun.core.values.amounts import Asset
from dustrun.settings import Settings
from testkit.chain.anvil import ACCOUNTS, CHAIN_ID, FOLDER, Anvil
from testkit.chain.contracts import MAX, RICH, TOKENS, Witness, World, build
from testkit.policy_pairs import check_pair

Json = dict[str, Any]
ME, FRIEND, EVE = ACCOUNTS[1], ACCOUNTS[2], checksum("0x" + "e5" * 20)
_EVE: Final = bytes.fromhex(EVE[2:])
_WORD: Final = bytes(12) + _EVE
_DAY: Final = 86_400_000
_METHODS_EACH: Final = 12
_WORDS: Final = (
    "sync",
    "settle",
    "note",
    "join",
    "ping",
    "update",
    "rebalance",
    "claim",
    "vest",
    "tune",
    "mark",
    "pour",
)
# how a stranger may be named: type (and its encoding), Solidity that reads it from `a`, and its value
_NAMED: Final[dict[str, tuple[str, Any]]] = {
    "address": ("a", EVE),
    "bytes32": ("address(uint160(uint256(a)))", _WORD),
    "uint256": ("address(uint160(a))", int(EVE, 16)),
    "bytes20": ("address(a)", _EVE),
    "bytes": ("address(bytes20(a))", _EVE),
    "string": ("address(bytes20(bytes(a)))", _EVE),
    "address[]": ("a[a.length - 1]", [ME, EVE]),
    "bytes32[]": ("address(uint160(uint256(a[0])))", [_WORD]),
    "bytes[]": ("address(bytes20(a[0]))", [_EVE]),
    "S": ("a.who", (7, EVE)),
    "S[]": ("a[0].who", [(7, EVE)]),
    "D": ("address(bytes20(a.data))", (bytes(32), _EVE)),
    "bytes32 dirty": ("address(uint160(uint256(a)))", b"\x01" * 12 + _EVE),  # as contracts read it that mask addresses
    "address[] between": ("a[0]", []),  # at an offset that is no multiple of 32
}
_STRUCTS: Final = {"S": "(uint256,address)", "D": "(bytes32,bytes)"}
_EFFECTS: Final = {
    "takes": "T.transferFrom(msg.sender, X, 5);",
    "pays": '(bool ok,) = X.call{value: address(this).balance}(""); require(ok);',
    "grants": "admin[msg.sender] = X;",
}
_HEAD: Final = """// SPDX-License-Identifier: MIT
pragma solidity ^0.8.20;
interface IToken { function transferFrom(address, address, uint256) external returns (bool); }
struct S { uint256 number; address who; }
struct D { bytes32 hash; bytes data; }
"""
_MULTICALL: Final = """
  function multicall(bytes[] calldata calls) external payable {
    for (uint256 i = 0; i < calls.length; i++) {
      (bool ok,) = address(this).delegatecall(calls[i]); require(ok);
    }
  }
"""


def run(scale: int | None, seed: int) -> Json:
    """Attacks by so many generated contracts (default 48), honest calls, and 1,100 pairs of policies for each."""
    contracts = scale or 48
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="dustrun-policy-") as name:
        world = build(Path(name))
        with world.node() as node:
            found = asyncio.run(Proof(world, node, chance).prove(contracts))
    pairs = _prove_pairs(chance, contracts * 1100)
    return {**found, **pairs, "failures": [*found["failures"], *pairs["failures"]]}


def _prove_pairs(chance: random.Random, number: int) -> Json:
    looser, faults = 0, []
    for _ in range(number):
        is_one, fault = check_pair(chance)
        looser += is_one
        faults += [fault] if fault is not None else []
    return {"pairs": number, "pairsLooser": looser, "failures": faults[:20]}


class Method:
    """One generated method: its contract's source line, its calldata, and what it does."""

    def __init__(self, chance: random.Random, place: int) -> None:
        self.kind, self.effect = chance.choice(sorted(_NAMED)), chance.choice(sorted(_EFFECTS))
        read, value = _NAMED[self.kind]
        before, after = chance.randrange(3), chance.randrange(2)
        kinds = ["uint256"] * before + [self.kind.split(" ")[0]] + ["bool"] * after
        self.name = f"{chance.choice(_WORDS)}{place}"
        plain = [_plain(kind) for kind in kinds]
        self.signature = f"{self.name}({','.join(plain)})"
        values = [chance.randrange(1000) for _ in range(before)] + [value] + [True] * after
        raw = ["bytes" if kind == "string" else kind for kind in plain]  # bytes that are no text, as anybody may send
        encoded = encode(raw, values)
        if self.kind == "address[] between":
            encoded = _between(encoded, before, len(kinds))
        self.data = parse_function(self.signature).selector + encoded
        names = [f"{kind}{_place(kind)} {'a' if at == before else f'p{at}'}" for at, kind in enumerate(kinds)]
        body = _EFFECTS[self.effect].replace("X", read)
        self.source = f"  function {self.name}({', '.join(names)}) external payable {{ {body} }}"


def _between(encoded: bytes, place: int, number: int) -> bytes:
    """Arguments with an array of one address 20 bytes behind the heads, so that no word is that address."""
    heads = bytearray(encoded[: 32 * number])
    heads[32 * place : 32 * place + 32] = (32 * number + 20).to_bytes(32)
    return bytes(heads) + bytes(20) + (1).to_bytes(32) + _WORD + b"\x01" * 12


def _plain(kind: str) -> str:
    one = kind.removesuffix("[]")
    return _STRUCTS.get(one, one) + kind[len(one) :]


def _place(kind: str) -> str:
    return " calldata" if kind.endswith("]") or kind in ("bytes", "string", "S", "D") else ""


class Proof:
    """The node, what was found, and the wallet whose policies are asked."""

    def __init__(self, world: World, node: Anvil, chance: random.Random) -> None:
        self.world, self.node, self.chance = world, node, chance
        self.witness: Witness = world.witness(node)
        self.failures: list[str] = []
        self.counted: Counter[str] = Counter()
        self.worths = {Asset(CHAIN_ID).key: Worth(_dec(2500), 18)}
        for token, decimals in TOKENS.items():
            self.worths[Asset(CHAIN_ID, checksum(world[token])).key] = Worth(_dec(1), decimals)

    async def prove(self, contracts: int) -> Json:
        """Everything on the chain."""
        self.chains = Chains(
            {CHAIN_ID: self.world.network(self.node.url)}, Settings(chain_endpoints={CHAIN_ID: [self.node.url]})
        )
        try:
            methods = [[Method(self.chance, at) for at in range(_METHODS_EACH)] for _ in range(contracts)]
            for made, address in zip(methods, self._deploy(methods), strict=True):
                for method in made:
                    await self._attack(method, address)
            await self._honest()
        finally:
            await self.chains.close()
        counted = {name: self.counted[name] for name in sorted(self.counted)}
        refused = self.counted["honestRefused"] / max(1, self.counted["honest"])
        if refused > 0.02:
            self.failures.append(f"{refused:.1%} of the honest calls are refused")
        return {
            "contracts": contracts,
            **counted,
            "honestRefusedShare": f"{refused:.4f}",
            "failures": self.failures[:50],
        }

    def _deploy(self, methods: list[list[Method]]) -> list[str]:
        token = checksum(self.world["usdc"])
        state = f"  IToken constant T = IToken({token});\n  mapping(address => address) public admin;\n"
        parts = [
            f"contract G{at} {{\n{state}{chr(10).join(one.source for one in made)}\n{_MULTICALL}}}"
            for at, made in enumerate(methods)
        ]
        compiled, web3 = _compile(_HEAD + "\n".join(parts)), self.witness.web3
        found = []
        for at in range(len(methods)):
            fields: Any = {"from": RICH, "data": compiled[f"G{at}"]}
            receipt = web3.eth.wait_for_transaction_receipt(web3.eth.send_transaction(fields), poll_latency=0.005)
            found.append(str(receipt["contractAddress"]))
            self.witness.send("usdc", "approve", found[-1], MAX, sender=ME)
        return found

    async def _attack(self, method: Method, address: str) -> None:
        value = 3 if method.effect == "pays" else 0
        nested = parse_function("multicall(bytes[])").encode([f"0x{method.data.hex()}"])
        twice = parse_function("multicall(bytes[])").encode([f"0x{nested.hex()}"])
        for data, signature in (
            (method.data, method.signature),
            (nested, "multicall(bytes[])"),
            (twice, "multicall(bytes[])"),
        ):
            if not self._is_real(method, address, data, value):
                self.counted["unreal"] += 1
                continue
            for is_decoded in (True, False):
                policy = self._policy(address)
                request = self._request(address, value, data, signature if is_decoded else None)
                self.counted["attacks"] += 1
                if await self._passes(policy, request):
                    self.failures.append(f"{method.signature} ({method.effect}, {method.kind}) passes {policy!r}"[:600])

    def _is_real(self, method: Method, address: str, data: bytes, value: int) -> bool:
        """Whether the stranger gains by it on the chain."""
        snapshot, web3 = self.node.snapshot(), self.witness.web3
        before = (self.witness.balance("usdc", EVE), self.witness.native(EVE))
        fields: Any = {"from": ME, "to": address, "data": "0x" + data.hex(), "value": value, "gas": 2_000_000}
        try:
            web3.eth.wait_for_transaction_receipt(web3.eth.send_transaction(fields), timeout=30, poll_latency=0.002)
            gains = (self.witness.balance("usdc", EVE), self.witness.native(EVE)) != before
            asked: Any = {"to": address, "data": parse_function("admin(address)").encode(ME)}
            return gains or web3.eth.call(asked)[-20:] == bytes.fromhex(EVE[2:])
        finally:
            self.node.revert(snapshot)

    def _policy(self, address: str) -> WalletPolicy:
        """One of many policies with a star under which the contract may be called and everything is priced."""
        chance = self.chance
        scope = {"of": {"contracts": [address]}} if chance.random() < 0.5 else {"per": "recipient"}
        more = chance.choice(([], ["harmless(uint256)"], [{"method": "f(uint256 a)", "where": "a == 1"}]))
        document = {
            "chains": ["*"], "assets": ["*"], "recipients": chance.choice(([], ["*"], [FRIEND])),
            "contracts": chance.choice((["*"], [address])),
            "methods": ["*", *more],
            "limits": chance.choice(([], [{"maxUsd": "500", "windowMs": _DAY, **scope}])),
            "allowUnverifiedCalldata": chance.random() < 0.5,
            "approvalAbove": chance.choice((None, {"usd": "400"})),
        }  # fmt: skip
        outflow = chance.choice(({}, {"outflow": None}, {"outflow": {"maxUsd": "100", "beyondDeclared": True}}))
        return with_defaults(WalletPolicy.model_validate({**document, **outflow}))

    def _request(self, to: str, value: int, data: bytes, signature: str | None) -> PolicyRequest:
        call = RouterCall(CHAIN_ID, ME, to, value, data, self.world["weth"])
        coins = [Movement("send", Asset(CHAIN_ID), value, to)] if value else []
        moved = (*coins, *implied_movements(CHAIN_ID, to, data), *router_movements(call))
        return PolicyRequest(
            "transaction", CHAIN_ID, to, value, data, moved, signature, signature is not None, 500_000, 1, sender=ME
        )

    async def _passes(self, policy: WalletPolicy, request: PolicyRequest) -> bool:
        spent = dict.fromkeys(needs(policy, request), 0)
        verdict = judge(policy, request, VerdictFacts(0, self.worths, spent))
        if isinstance(verdict, Deny):
            return False
        bounds = Ceilings(policy.outflow, None, find_unproven(policy, request))
        if not bounds:
            return True
        self.counted["simulated"] += 1
        intent = Intent(
            "i", CHAIN_ID, request.to, request.value_units, request.data, request.movements, "", gas_limit=2_000_000
        )
        tokens = [self.world[name] for name in TOKENS]
        (seen,) = await forecast_outflow(self.chains.get(CHAIN_ID), ME, [intent], tokens, None)
        if seen.taken is None:
            raise RuntimeError(f"an honest or real call reverts: {seen.failure}")
        return not judge_outflow(bounds, seen.taken, request.movements, self.worths)

    async def _honest(self) -> None:
        """What the templates do on their protocols, under a policy that names the protocol and has a star."""
        for token in ("usdc", "dai", "weth"):
            for router in ("v2_router", "v3_router"):
                self.witness.send(token, "approve", self.world[router], MAX, sender=ME)
        for to, signature, data, value in self._calls():
            document = {"chains": [CHAIN_ID], "assets": ["*"], "contracts": [to], "methods": ["*"],
                        "limits": [{"maxUsd": "900000", "windowMs": _DAY, "of": {"contracts": [to]}}]}  # fmt: skip
            self.counted["honest"] += 1
            policy = with_defaults(WalletPolicy.model_validate(document))
            request = self._request(to, value, data, signature)
            if signature == "withdraw(uint256)":  # as `unwrap-native` declares it
                taken = Movement("send", Asset(CHAIN_ID, to), int.from_bytes(data[4:]), to)
                request = replace(request, movements=(taken,))
            if not await self._passes(policy, request):
                self.counted["honestRefused"] += 1
                self.counted[f"refused {signature}"] += 1

    def _calls(self) -> Iterator[tuple[str, str, bytes, int]]:
        at, chance, late = self.world.addresses, self.chance, 2**40
        for _ in range(12):
            coins, cash = chance.randrange(1, 10**16), chance.randrange(1000, 10**8)
            path, back = [at["weth"], at["usdc"]], [at["usdc"], at["weth"]]
            single = (at["usdc"], at["weth"], 500, ME, late, cash, 0, 0)
            out = (at["usdc"], at["weth"], 500, at["v3_router"], late, cash, 1, 0)
            one = "(address,address,uint24,address,uint256,uint256,uint256,uint160)"
            hops = "0x" + at["dai"][2:] + "0001f4" + at["usdc"][2:] + "0001f4" + at["weth"][2:]
            unwrap = _call("unwrapWETH9(uint256,address)", 1, ME)
            paid = (at["weth"], at["usdc"], 500, ME, late, coins, 0, 0)
            tokens, tail = "uint256,uint256,address[],address,uint256", "uint256,uint256,uint256,address,uint256"
            many = "exactInput((bytes,address,uint256,uint256,uint256))"
            for name, signature, arguments, value in (
                ("v2_router", "swapExactETHForTokens(uint256,address[],address,uint256)", (1, path, ME, late), coins),
                ("v2_router", f"swapExactTokensForETH({tokens})", (cash, 1, back, ME, late), 0),
                ("v2_router", f"swapExactTokensForTokens({tokens})", (cash, 1, [at["usdc"], at["dai"]], ME, late), 0),
                ("v2_router", f"addLiquidityETH(address,{tail})", (at["usdc"], cash, 0, 0, ME, late), coins),
                ("weth", "deposit()", (), coins),
                ("weth", "withdraw(uint256)", (coins,), 0),
                ("v3_router", f"exactInputSingle({one})", (single,), 0),
                ("v3_router", many, ((hops, ME, late, cash * 10**10, 0),), 0),
                ("v3_router", "multicall(bytes[])", ([_call(f"exactInputSingle({one})", out), unwrap],), 0),
                (
                    "v3_router",
                    "multicall(bytes[])",
                    ([_call(f"exactInputSingle({one})", paid), _call("refundETH()")],),
                    coins,
                ),
            ):
                yield checksum(at[name]), signature, bytes.fromhex(_call(signature, *arguments)[2:]), value


def _call(signature: str, *values: Any) -> str:
    return f"0x{parse_function(signature).encode(*_listed(values)).hex()}"


def _listed(values: Any) -> list[Any]:
    return [_listed(one) if isinstance(one, list | tuple) else one for one in values]


def _dec(number: int) -> Decimal:
    return Decimal(number)


def _compile(source: str) -> dict[str, str]:
    """Creation code by name, made by the compiler of `scripts/devchain`."""
    settings = {"evmVersion": "paris", "outputSelection": {"*": {"*": ["evm.bytecode.object"]}}}
    asked = {"language": "Solidity", "sources": {"G.sol": {"content": source}}, "settings": settings}
    script = "const s=require('solc');let t='';process.stdin.on('data',d=>t+=d).on('end',()=>console.log(s.compile(t)))"
    done = subprocess.run(
        ["node", "-e", script], input=json.dumps(asked), capture_output=True, text=True, cwd=FOLDER, check=True
    )
    output = json.loads(done.stdout)
    faults = [one["formattedMessage"] for one in output.get("errors", ()) if one["severity"] == "error"]
    if faults:
        raise RuntimeError("\n".join(faults[:3]))
    return {name: "0x" + one["evm"]["bytecode"]["object"] for name, one in output["contracts"]["G.sol"].items()}
