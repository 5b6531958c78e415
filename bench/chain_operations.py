"""Random transactions of every kind for the proof of fidelity: tokens plain and odd, NFTs, Uniswap, wrapped coin,
calls that pay on, creations, batches, and many that must fail. Calldata is encoded by web3.py, not by the product."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from eth_abi.abi import encode

from bench.odd_tokens import DECIMALS
from dustrun.core.money.intent import Intent, Movement
from dustrun.core.values.addresses import checksum
from dustrun.core.values.amounts import Asset
from testkit.chain.anvil import ACCOUNTS, CHAIN_ID
from testkit.chain.contracts import ETHER, MAX, TOKENS, Witness, World, artifact

LATE = 2**40
WALLETS = ACCOUNTS[1:4]
STRANGERS = tuple(checksum(f"0x{'57' * 18}{place:04x}") for place in range(6))
_FAILING = ("zoo-revert", "over-transfer", "over-pay", "no-allowance", "bad-swap", "nft-missing", "rejector")


@dataclass(frozen=True)
class Operation:
    """One transaction: who sends what; `kind` is counted."""

    kind: str
    sender: str
    intent: Intent


@dataclass
class Maker:
    """Draws operations; `ids` are the NFTs that may exist, so that some hit."""

    witness: Witness
    world: World
    draw: random.Random
    ids: list[int] = field(default_factory=lambda: [1, 2, 3])
    salts: int = 0

    def operation(self) -> Operation:
        """The next one; a sixth is meant to fail."""
        kind = self.draw.choice(_FAILING) if self.draw.random() < 0.16 else self.draw.choice(KINDS)
        sender = self.draw.choice(WALLETS)
        return Operation(kind, sender, MAKERS[kind](self, sender))

    def anybody(self) -> str:
        """A wallet or a stranger."""
        return self.draw.choice(WALLETS + STRANGERS)

    def other(self, sender: str) -> str:
        """Another wallet."""
        return self.draw.choice([wallet for wallet in WALLETS if wallet != sender])

    def units(self, token: str) -> int:
        """Up to a hundred whole tokens, often uneven, sometimes nothing."""
        whole: int = self.draw.choice((0, 1, 1, 7, 100))
        return whole * int(10 ** DECIMALS[token]) // self.draw.choice((1, 1, 3)) + self.draw.choice((0, 0, 1))

    def call(self, name: str, function: str, *args: Any, value: int = 0, at: str | None = None) -> Intent:
        """A call of a function."""
        contract = self.witness.contract(name, at)
        data = bytes.fromhex(contract.encode_abi(function, list(args))[2:])
        errors = tuple(dict(entry) for entry in contract.abi if entry["type"] == "error")
        return Intent(function, CHAIN_ID, str(contract.address), value, data, (), function, errors=errors)


Make = Callable[[Maker, str], Intent]


def _pay(to: str, units: int) -> Intent:
    return Intent("pay", CHAIN_ID, to, units, b"", (Movement("send", Asset(CHAIN_ID), units, to),), "pays")


def _transfer(token: str) -> Make:
    return lambda make, sender: make.call(token, "transfer", make.anybody(), make.units(token))


def _erc20(make: Maker, sender: str) -> Intent:
    token = make.draw.choice([name for name in TOKENS if name != "weth"])
    return make.call(token, "transfer", make.anybody(), make.units(token))


def _approve(make: Maker, sender: str) -> Intent:
    token, units = make.draw.choice(list(TOKENS)), make.draw.choice((0, 5, 10**9, 10**24, MAX))
    spender = make.draw.choice((make.world["v2_router"], make.world["v3_router"], make.other(sender)))
    return make.call(token, "approve", spender, units)


def _transfer_from(make: Maker, sender: str) -> Intent:
    token = make.draw.choice(list(TOKENS))
    return make.call(token, "transferFrom", make.other(sender), make.anybody(), make.draw.choice((0, 1, 5, 10**6)))


def _approve_router(router: str) -> Make:
    def make_one(make: Maker, sender: str) -> Intent:
        return make.call(make.draw.choice(("weth", "usdc", "dai", "fee")), "approve", make.world[router], 10**24)

    return make_one


def _path(make: Maker, *names: str) -> list[str]:
    return [make.world[name] for name in names]


def _v2_coin_in(make: Maker, sender: str) -> Intent:
    path = _path(make, "weth", *make.draw.choice((("usdc",), ("usdc", "dai"), ("wbtc",), ("fee",))))
    value = make.draw.randrange(1, ETHER)
    function = "swapExactETHForTokens"
    if path[-1] == make.world["fee"]:
        function = "swapExactETHForTokensSupportingFeeOnTransferTokens"
    return make.call("v2_router", function, 0, path, make.anybody(), LATE, value=value)


def _v2_tokens(make: Maker, sender: str) -> Intent:
    path = _path(make, *make.draw.choice((("usdc", "weth"), ("weth", "usdc", "dai"), ("dai", "usdc"))))
    amount = make.draw.randrange(1, 10**8)
    return make.call("v2_router", "swapExactTokensForTokens", amount, 0, path, make.anybody(), LATE)


def _v2_coin_out(make: Maker, sender: str) -> Intent:
    if make.draw.random() < 0.3:
        function, path = "swapExactTokensForETHSupportingFeeOnTransferTokens", _path(make, "fee", "weth")
        return make.call("v2_router", function, 10**18, 0, path, sender, LATE)
    return make.call("v2_router", "swapTokensForExactETH", 10**15, 10**9, _path(make, "usdc", "weth"), sender, LATE)


def _v3_in(make: Maker, sender: str) -> Intent:
    fee = make.draw.choice((500, 3000))
    if make.draw.random() < 0.5:
        amount = make.draw.randrange(1, ETHER)
        swap = (make.world["weth"], make.world["usdc"], fee, make.anybody(), LATE, amount, 0, 0)
        return make.call("v3_router", "exactInputSingle", swap, value=amount)
    swap = (make.world["usdc"], make.world["dai"], 500, sender, LATE, make.draw.randrange(1, 10**9), 0, 0)
    return make.call("v3_router", "exactInputSingle", swap)


def _v3_out(make: Maker, sender: str) -> Intent:
    wanted = make.draw.randrange(1, 10**9)
    swap = (make.world["weth"], make.world["usdc"], 3000, sender, LATE, wanted, ETHER, 0)
    router = make.witness.contract("v3_router")
    calls = [router.encode_abi("exactOutputSingle", [swap]), router.encode_abi("refundETH", [])]
    return make.call("v3_router", "multicall", calls, value=ETHER)


def _deposit(make: Maker, sender: str) -> Intent:
    return make.call("weth", "deposit", value=make.draw.randrange(0, ETHER))


def _withdraw(make: Maker, sender: str) -> Intent:
    return make.call("weth", "withdraw", make.draw.randrange(0, ETHER))


def _forward(make: Maker, sender: str) -> Intent:
    value = make.draw.randrange(0, 10**16)
    which = make.draw.randrange(3)
    if which == 0:
        return make.call("forwarder", "forward", make.anybody(), value=value)
    if which == 1:
        return make.call("forwarder", "split", make.anybody(), make.anybody(), value=value)
    return make.call("forwarder", "tryForward", make.draw.choice((make.world["rejector"], make.anybody())), value=value)


def _create(make: Maker, sender: str) -> Intent:
    name, arguments = make.draw.choice(
        (
            ("Token", encode(["string", "string", "uint8"], ["Drawn", "DRAW", make.draw.randrange(30)])),
            ("Feed", encode(["uint8", "int256"], [8, make.draw.randrange(10**12)])),
            ("Zoo", b""),
            ("FeeToken", b""),
        )
    )
    code = bytes.fromhex(artifact(name)[1][2:]) + arguments
    return Intent("create", CHAIN_ID, None, 0, code, (), f"creates {name}")


def _inner_create(make: Maker, sender: str) -> Intent:
    make.salts += 1
    which = make.draw.randrange(4)
    if which == 0:
        return make.call("factory", "create", "INNER", value=make.draw.randrange(0, 1000))
    if which == 1:
        return make.call("factory", "destroy", make.anybody())
    return make.call("factory", "create2", (make.salts // which).to_bytes(32))  # some salts come twice and fail


def _nft(make: Maker, sender: str) -> Intent:
    id = make.draw.choice(make.ids)
    which = make.draw.randrange(6)
    if which < 2:
        make.ids.append(make.ids[-1] + 1)
        return make.call("nft", "mint", make.draw.choice(WALLETS), make.ids[-1])
    if which == 2:
        return make.call("nft", "approve", make.other(sender), id)
    if which == 3:
        return make.call("nft", "burn", id)
    if which == 4:
        return make.call("nft", "setApprovalForAll", make.other(sender), make.draw.random() < 0.7)
    owner = make.draw.choice((sender, make.other(sender)))
    return make.call("nft", "transferFrom", owner, make.anybody(), id)


def _multi(make: Maker, sender: str) -> Intent:
    which, ids = make.draw.randrange(4), [1, 2, 3]
    if which == 0:
        return make.call("multi", "mint", sender, make.draw.choice(ids), make.draw.randrange(100))
    if which == 1:
        return make.call("multi", "setApprovalForAll", make.other(sender), make.draw.random() < 0.7)
    owner = make.draw.choice((sender, sender, make.other(sender)))
    if which == 2:
        amounts = [make.draw.randrange(5) for _ in ids]
        return make.call("multi", "safeBatchTransferFrom", owner, make.anybody(), ids, amounts, b"")
    return make.call("multi", "safeTransferFrom", owner, make.anybody(), 1, make.draw.randrange(9), b"")


def _zoo(make: Maker, sender: str) -> Intent:
    function, args = make.draw.choice(
        (("count", ()), ("forget", ()), ("noop", ()), ("name", ("äöü",)), ("burnGas", (5,)), ("clear", ()))
    )
    return make.call("zoo", function, *args)


def _switch(make: Maker, sender: str) -> Intent:
    which = make.draw.randrange(4)
    if which == 0:
        return make.call("rebasing", "rebase", make.draw.choice((50, 99, 100, 101, 150)))
    if which == 1:
        return make.call("blocklist", "setBlocked", make.anybody(), make.draw.random() < 0.4)
    if which == 2:
        return make.call("pausable", "setPaused", make.draw.random() < 0.4)
    return make.call("eth_usd", "set", make.draw.randrange(10**12))


def _reentrant(make: Maker, sender: str) -> Intent:
    if make.draw.random() < 0.4:
        return make.call("reentrant", "approve", make.world["greedy"], make.draw.choice((0, 10, 1000)))
    return make.call("reentrant", "transfer", make.world["greedy"], make.draw.choice((1, 10, 100)))


def _batch(make: Maker, sender: str) -> Intent:
    calls, value = [], 0
    for _ in range(make.draw.randrange(1, 5)):
        inner = MAKERS[make.draw.choice(("zoo", "switch", "forward"))](make, sender)
        calls.append((inner.to, make.draw.random() < 0.7, inner.value_units, inner.data))
        value += inner.value_units
    return make.call("multicall", "aggregate3Value", calls, value=value)


def _pair(make: Maker, sender: str) -> Intent:
    first, second = make.draw.sample(("whole", "cents", "fine", "race", "pausable", "wbtc", "dai"), 2)
    return make.call("v2_factory", "createPair", make.world[first], make.world[second])


def _liquidity(make: Maker, sender: str) -> Intent:
    pair = (make.world["usdc"], make.world["dai"])
    return make.call("v2_router", "addLiquidity", *pair, 10**7, 10**19, 0, 0, sender, LATE)


def _zoo_revert(make: Maker, sender: str) -> Intent:
    function, args = make.draw.choice(
        (
            ("requireString", ()),
            ("panicAssert", ()),
            ("panicOverflow", ()),
            ("panicDivision", (0,)),
            ("panicEnum", (7,)),
            ("panicPop", ()),
            ("panicIndex", ()),
            ("custom", ()),
            ("nested", ()),
            ("empty", ()),
            ("unknown", ()),
            ("throughCall", (make.world["zoo"],)),
        )
    )
    return make.call("zoo", function, *args)


def _over_transfer(make: Maker, sender: str) -> Intent:
    return make.call(make.draw.choice(("usdc", "dai", "fee", "race", "false")), "transfer", make.anybody(), 10**60)


def _over_pay(make: Maker, sender: str) -> Intent:
    return _pay(make.anybody(), 10**30)


def _no_allowance(make: Maker, sender: str) -> Intent:
    return make.call("usdc", "transferFrom", make.world["v2_router"], sender, 1)


def _bad_swap(make: Maker, sender: str) -> Intent:
    path = _path(make, "weth", "usdc")
    return make.call("v2_router", "swapExactETHForTokens", 10**30, path, sender, LATE, value=1000)


def _nft_missing(make: Maker, sender: str) -> Intent:
    return make.call("nft", "transferFrom", sender, make.other(sender), 10**9)


def _rejector(make: Maker, sender: str) -> Intent:
    return _pay(make.world["rejector"], 5)


MAKERS: dict[str, Make] = {
    "pay": lambda make, sender: _pay(make.anybody(), make.draw.choice((0, 1, 10**15, ETHER))),
    "erc20-transfer": _erc20,
    "fee-token": _transfer("fee"),
    "no-return-token": _transfer("race"),
    "false-token": _transfer("false"),
    "rebasing-token": _transfer("rebasing"),
    "blocklist-token": _transfer("blocklist"),
    "pausable-token": _transfer("pausable"),
    "approve": _approve,
    "transfer-from": _transfer_from,
    "approve-v2": _approve_router("v2_router"),
    "approve-v3": _approve_router("v3_router"),
    "v2-coin-in": _v2_coin_in,
    "v2-tokens": _v2_tokens,
    "v2-coin-out": _v2_coin_out,
    "v2-pair": _pair,
    "v2-liquidity": _liquidity,
    "v3-in": _v3_in,
    "v3-out": _v3_out,
    "wrap": _deposit,
    "unwrap": _withdraw,
    "forward": _forward,
    "create": _create,
    "inner-create": _inner_create,
    "nft": _nft,
    "multi-token": _multi,
    "zoo": _zoo,
    "switch": _switch,
    "reentrant": _reentrant,
    "batch": _batch,
    "zoo-revert": _zoo_revert,
    "over-transfer": _over_transfer,
    "over-pay": _over_pay,
    "no-allowance": _no_allowance,
    "bad-swap": _bad_swap,
    "nft-missing": _nft_missing,
    "rejector": _rejector,
}
KINDS = tuple(kind for kind in MAKERS if kind not in _FAILING)
