"""The steps of random workflows: real actions with inputs of chance, and many that must fail. Calldata of
`write-contract` is encoded by web3.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bench.chain_operations import MAKERS, WALLETS
from bench.odd_tokens import DECIMALS
from testkit.chain.anvil import CHAIN_ID
from testkit.chain.contracts import ETHER, MAX, artifact

if TYPE_CHECKING:
    from bench.random_workflows import Drawing

Json = dict[str, Any]


@dataclass
class Step:
    """A node that spends, and what it may hand on: `gives` are expressions of amounts by token and wallet."""

    kind: str
    type: str
    payload: Json
    gives: Mapping[str, str] = field(default_factory=dict)  # token: field of the result


def _send_native(draw: Drawing, sender: str) -> Step:
    amount = draw.amount(sender, "native")
    return Step("", "send-native", _on({"recipient": draw.recipient(), "amount": amount}))


def _on(payload: Json) -> Json:
    return {"chainId": CHAIN_ID, **payload}


Make = Callable[["Drawing", str], Step]


def _send(*tokens: str) -> Make:
    def make(draw: Drawing, sender: str) -> Step:
        token = draw.draw.choice(tokens)
        amount = "max" if draw.draw.random() < 0.02 and token not in ("usdc", "weth") else draw.amount(sender, token)
        payload = {"token": draw.world[token], "recipient": draw.recipient(), "amount": amount}
        return Step("", "send-erc20-token", _on(payload), {token: "amountSent"})

    return make


def _to_a_hook(draw: Drawing, sender: str) -> Step:
    """A payment to a contract that passes half of it on while it is being paid."""
    amount = draw.amount(sender, "HookedToken")
    payload = {"token": draw.world["HookedToken"], "recipient": draw.world["Splitter"], "amount": amount}
    return Step("", "send-erc20-token", _on(payload), {"HookedToken": "amountSent"})


def _approve(draw: Drawing, sender: str) -> Step:
    token = draw.draw.choice(list(DECIMALS))
    spender = draw.draw.choice((draw.world["v2_router"], draw.world["v3_router"], draw.make.other(sender)))
    amount = draw.draw.choice(("0", "max", str(10**9), draw.amount(sender, token)))
    return Step("", "approve-erc20", _on({"token": draw.world[token], "spender": spender, "amount": amount}))


def _wrap(type: str, token: str) -> Make:
    def make(draw: Drawing, sender: str) -> Step:
        given = "native" if token == "weth" else "weth"
        return Step("", type, _on({"amount": draw.amount(sender, given)}), {token: "amount"})

    return make


_PAIRS = {
    2: (("native", "usdc"), ("usdc", "native"), ("weth", "usdc"), ("usdc", "dai"), ("dai", "usdc"), ("native", "wbtc"),
        ("fee", "weth"), ("native", "fee"), ("dai", "weth")),
    3: (("native", "usdc"), ("usdc", "native"), ("weth", "usdc"), ("usdc", "dai"), ("dai", "usdc")),
}  # fmt: skip
_SMALL = {"native": 10**16, "weth": 10**16, "usdc": 25 * 10**6, "dai": 25 * ETHER, "wbtc": 10**5, "fee": ETHER}


def _swap(version: int, side: str) -> Make:
    def make(draw: Drawing, sender: str) -> Step:
        pairs = [pair for pair in _PAIRS[version] if side == "amountIn" or "fee" not in pair]
        given, wanted = draw.draw.choice(pairs)
        token = given if side == "amountIn" else wanted
        amount = str(draw.draw.randrange(1, _SMALL[token]))
        if side == "amountIn" and draw.draw.random() < 0.4:
            amount = draw.amount(sender, token)
        payload = {
            "tokenIn": draw.world.addresses.get(given, given),
            "tokenOut": draw.world.addresses.get(wanted, wanted),
            side: amount,
            "slippageBps": 300,
        }
        if draw.draw.random() < 0.3:
            payload["recipient"] = draw.recipient()
            return Step("", f"swap-uniswap-v{version}", _on(payload))
        return Step("", f"swap-uniswap-v{version}", _on(payload), {wanted: "amountOut"})

    return make


def _batch(*tokens: str) -> Make:
    def make(draw: Drawing, sender: str) -> Step:
        token = draw.draw.choice(tokens)
        count = draw.draw.randrange(2, 5)
        rows = [{"recipient": draw.recipient(), "amount": draw.amount(sender, token)} for _ in range(count)]
        if draw.draw.random() < 0.5:
            rows = [{**row, "key": f"k{place}"} for place, row in enumerate(rows)]
        return Step("", "batch-transfer", _on({"token": draw.world.addresses.get(token, token), "rows": rows}))

    return make


def _nft(draw: Drawing, sender: str) -> Step:
    own = draw.make.ids[WALLETS.index(sender)]  # as they are handed out before
    payload = {
        "contract": draw.world["nft"],
        "tokenId": str(own if draw.draw.random() < 0.8 else draw.draw.choice(draw.make.ids)),
        "recipient": draw.recipient(),
        "safe": draw.draw.random() < 0.5,
    }
    return Step("", "send-erc721", _on(payload))


def _deploy_token(draw: Drawing, sender: str) -> Step:
    abi, code = artifact("Token")
    payload = {"bytecode": code, "abi": abi, "args": ["Made", "MADE", draw.draw.randrange(30)]}
    return Step("", "deploy-contract", _on(payload))


def _call_created(draw: Drawing, sender: str) -> Step:
    """A call of what an earlier step created; without one, of a token by its signature."""
    contract = draw.created("deploy Token") or draw.world["cents"]
    function, args = draw.draw.choice(
        (
            ("mint(address,uint256)", [draw.recipient(), str(10**6)]),
            ("approve(address,uint256)", [draw.make.other(sender), "5"]),
            ("transfer(address,uint256)", [draw.recipient(), "1"]),
        )
    )
    payload = {"contract": contract, "function": function, "args": args, "events": [_TRANSFER]}
    return Step("", "write-contract", _on(payload))


_TRANSFER = "Transfer(address indexed from, address indexed to, uint256 value)"


_DEPENDENT_ON_GAS = ("reentrant", "forward", "batch")  # an inner call may fail, and then less gas does


def _written(name: str) -> Make:
    """The calldata of a maker of `chain_operations`, by `write-contract` or `deploy-contract`."""

    def make(draw: Drawing, sender: str) -> Step:
        intent = MAKERS[name](draw.make, sender)
        data = f"0x{intent.data.hex()}"
        if intent.to is None:
            return Step("", "deploy-contract", _on({"bytecode": data}))
        payload: Json = {"contract": intent.to, "data": data, "value": str(intent.value_units)}
        if name in _DEPENDENT_ON_GAS:  # so that has to be said
            payload["gasLimit"] = 2_000_000
        return Step("", "write-contract", _on(payload))

    return make


def _starved(draw: Drawing, sender: str) -> Step:
    """A call whose gas limit does not do."""
    payload = {"contract": draw.world["zoo"], "function": "count()", "gasLimit": draw.draw.randrange(21_000, 25_000)}
    return Step("", "write-contract", _on(payload))


def _to_itself(draw: Drawing, sender: str) -> Step:
    token = draw.draw.choice(("native", "usdc", "fee", "rebasing", "race", "GrowingToken"))
    payload = {"recipient": sender, "amount": draw.amount(sender, token)}
    if token == "native":
        return Step("", "send-native", _on(payload))
    return Step("", "send-erc20-token", _on({"token": draw.world[token], **payload}))


def _coin(draw: Drawing) -> str:
    return str(draw.draw.choice((0, 1, 10**12)))


def _deploy_doomed(draw: Drawing, sender: str) -> Step:
    """Its constructor pays all that it got to somebody and ends it."""
    abi, code = artifact("Doomed")
    return Step(
        "", "deploy-contract", _on({"bytecode": code, "abi": abi, "args": [draw._anybody()], "value": _coin(draw)})
    )


def _code(init_code: str) -> Make:
    def make(draw: Drawing, sender: str) -> Step:
        return Step("", "deploy-contract", _on({"bytecode": f"0x{init_code}", "value": _coin(draw)}))

    return make


# Emits chain id, gas limit of the block, origin, caller, value, own balance and address; its code is one byte.
_TELLS = "466000524560205232604052336060523460805247" + "60a0523060c05260e06000a0" + "600060005360016000f3"
_MORTAL = "6133ff6000526002601ef3"  # its code ends it in favour of whoever calls it


def _end_created(draw: Drawing, sender: str) -> Step:
    """A call that ends what an earlier step created; without one, one that does nothing."""
    contract = draw.created("deploy: ends itself when called")
    asked = {"function": "noop()", "contract": draw.world["zoo"]} if contract is None else {"contract": contract}
    return Step("", "write-contract", _on(asked if contract is None else {**asked, "data": "0x00"}))


def _no_code(draw: Drawing, sender: str) -> Step:
    """A creation that leaves a byte more than nodes take, or code that begins with ef."""
    return _code(draw.draw.choice(("6160016000f3", "60ef60005360016000f3")))(draw, sender)


def _over(draw: Drawing, sender: str) -> Step:
    if draw.draw.random() < 0.5:
        return Step("", "send-native", _on({"recipient": draw.recipient(), "amount": str(10**30)}))
    token = draw.draw.choice(("usdc", "dai", "fee", "race", "false", "rebasing", "cents"))
    payload = {"token": draw.world[token], "recipient": draw.recipient(), "amount": str(MAX)}
    return Step("", "send-erc20-token", _on(payload))


def _bad_swap(draw: Drawing, sender: str) -> Step:
    version = draw.draw.choice((2, 3))
    payload = {"tokenIn": "native", "tokenOut": draw.world["usdc"], "amountIn": "1000", "amountOutMin": str(10**30)}
    return Step("", f"swap-uniswap-v{version}", _on(payload))


def _rejector(draw: Drawing, sender: str) -> Step:
    return Step("", "send-native", _on({"recipient": draw.world["rejector"], "amount": "5"}))


STEPS: dict[str, Make] = {
    "send-native": _send_native,
    "send-erc20-token plain": _send("usdc", "dai", "weth", "wbtc", "cents", "whole", "fine"),
    "send-erc20-token fee": _send("fee"),
    "send-erc20-token no return value": _send("race"),
    "send-erc20-token false": _send("false"),
    "send-erc20-token rebasing": _send("rebasing"),
    "send-erc20-token blocklist": _send("blocklist"),
    "send-erc20-token pausable": _send("pausable"),
    "send-erc20-token reentrant": _send("reentrant"),
    "send-erc20-token silent": _send("SilentToken"),
    "send-erc20-token of the block": _send("ClockToken"),
    "send-erc20-token growing": _send("GrowingToken"),
    "send-erc20-token hooked": _send("HookedToken"),
    "send-erc20-token to a hook": _to_a_hook,
    "approve-erc20": _approve,
    "wrap-native": _wrap("wrap-native", "weth"),
    "unwrap-native": _wrap("unwrap-native", "native"),
    "swap-uniswap-v2 in": _swap(2, "amountIn"),
    "swap-uniswap-v2 out": _swap(2, "amountOut"),
    "swap-uniswap-v3 in": _swap(3, "amountIn"),
    "swap-uniswap-v3 out": _swap(3, "amountOut"),
    "batch-transfer native": _batch("native"),
    "batch-transfer tokens": _batch("usdc", "dai", "fee", "race", "rebasing", "SilentToken", "HookedToken"),
    "send-erc721": _nft,
    "deploy Token": _deploy_token,
    "deploy-contract": _written("create"),
    "deploy: ends in its constructor": _deploy_doomed,
    "deploy: tells its surroundings": _code(_TELLS),
    "deploy: ends itself when called": _code(_MORTAL),
    "write-contract that ends a created one": _end_created,
    "send to itself": _to_itself,
    "write-contract of a created one": _call_created,
    "write-contract transferFrom": _written("transfer-from"),
    "write-contract createPair": _written("v2-pair"),
    "write-contract addLiquidity": _written("v2-liquidity"),
    "write-contract V3 multicall": _written("v3-out"),
    "write-contract paying on": _written("forward"),
    "write-contract creating": _written("inner-create"),
    "write-contract NFT": _written("nft"),
    "write-contract multi-token": _written("multi-token"),
    "write-contract events": _written("zoo"),
    "write-contract switches": _written("switch"),
    "write-contract reentrant": _written("reentrant"),
    "write-contract batch": _written("batch"),
    "fails: revert": _written("zoo-revert"),
    "fails: no allowance": _written("no-allowance"),
    "fails: no such NFT": _written("nft-missing"),
    "fails: more than there is": _over,
    "fails: swap below its least": _bad_swap,
    "fails: recipient takes no coin": _rejector,
    "fails: gas limit": _starved,
    "fails: code that no node takes": _no_code,
}
KINDS = tuple(STEPS)
