from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from actions.evm.conftest import Scene
from dustrun.actions.evm.swap_uniswap_v2 import swap_uniswap_v2
from dustrun.core.money.intent import Movement
from dustrun.core.values.amounts import Asset
from dustrun.errors import Invalid, Permanent
from testkit.chain.anvil import ACCOUNTS
from testkit.chain.contracts import ETHER, MAX

CAROL = ACCOUNTS[2]
USDC = 10**6


def balance(scene: Scene, coin: str, who: str) -> int:
    return scene.witness.native(who) if coin == "native" else scene.witness.balance(coin, who)


def quote(scene: Scene, function: str, amount: int, *route: str) -> list[int]:
    path = [scene[name] for name in route]
    return list(scene.witness.read("v2_router", function, amount, path))


EXACT_IN = [
    ("native", "usdc", ETHER // 100, ["weth", "usdc"]),
    ("usdc", "native", 25 * USDC, ["usdc", "weth"]),
    ("usdc", "dai", 25 * USDC, ["usdc", "dai"]),
    ("native", "dai", ETHER // 100, None),
    ("dai", "wbtc", 100 * ETHER, None),
    ("weth", "fee", ETHER // 100, ["weth", "fee"]),
    ("fee", "native", 10 * ETHER, ["fee", "weth"]),
]


@pytest.mark.parametrize(("given", "wanted", "amount", "route"), EXACT_IN)
async def test_exact_in_gets_what_the_result_says(
    scene: Scene, given: str, wanted: str, amount: int, route: list[str] | None
) -> None:
    me = scene.wallet.address
    before, had = balance(scene, given, me), balance(scene, wanted, CAROL)
    payload: dict[str, Any] = {"via": ["weth", "usdc"]} if (given, wanted) == ("wbtc", "dai") else {}
    if (given, wanted) == ("native", "dai"):
        payload = {"via": ["usdc"]}
    if (given, wanted) == ("dai", "wbtc"):
        payload = {"via": ["usdc", "weth"]}
    text = {"native": "native"}.get
    result = await scene.do(
        swap_uniswap_v2,
        tokenIn=text(given, scene.witness.addresses.get(given)),
        tokenOut=text(wanted, scene.witness.addresses.get(wanted)),
        amountIn=str(amount),
        slippageBps=200,
        recipient=CAROL,
        **payload,
    )
    fees = sum_of_fees(scene, result) if given == "native" else 0
    assert before - balance(scene, given, me) - fees == amount == int(result["amountIn"])
    assert int(result["amountOut"]) == balance(scene, wanted, CAROL) - had > 0
    is_taxed = "fee" in (given, wanted)
    assert (int(result["amountOut"]) == int(result["quotedOut"])) is not is_taxed
    if route:
        assert result["route"] == [scene[name] for name in route]
    assert (result["approvalHash"] is None) is (given == "native")
    if given != "native":
        assert scene.witness.allowance(given, me, scene["v2_router"]) == 0


def sum_of_fees(scene: Scene, result: dict[str, Any]) -> int:
    found: Any = scene.witness.web3.eth.get_transaction_receipt(result["hash"])
    return int(found["gasUsed"] * found["effectiveGasPrice"])


@pytest.mark.parametrize(
    ("given", "wanted", "amount"),
    [("native", "usdc", 25 * USDC), ("usdc", "native", ETHER // 100), ("usdc", "dai", 25 * ETHER)],
)
async def test_exact_out_gives_no_more_than_needed(scene: Scene, given: str, wanted: str, amount: int) -> None:
    me = scene.wallet.address
    before, had = balance(scene, given, me), balance(scene, wanted, CAROL)
    result = await scene.do(
        swap_uniswap_v2, tokenIn=given, tokenOut=wanted, amountOut=str(amount), slippageBps=100, recipient=CAROL
    )
    fees = sum_of_fees(scene, result) if given == "native" else 0
    assert balance(scene, wanted, CAROL) - had == amount == int(result["amountOut"])
    assert before - balance(scene, given, me) - fees == int(result["amountIn"]) == int(result["quotedIn"])
    if given != "native":
        most = -(-int(result["quotedIn"]) * 10_100 // 10_000)
        left = scene.witness.allowance(given, me, scene["v2_router"])
        assert left == most - int(result["amountIn"])


async def test_the_quote_and_the_limit_are_those_of_the_router(scene: Scene) -> None:
    spend = await scene.plan(swap_uniswap_v2, tokenIn="native", tokenOut="usdc", amountIn=str(ETHER), slippageBps=50)
    quoted = quote(scene, "getAmountsOut", ETHER, "weth", "usdc")[-1]
    (swap,) = spend.intents
    _, values = scene.witness.contract("v2_router").decode_function_input(swap.data)
    now = scene.witness.web3.eth.get_block("latest")["timestamp"]
    assert values["amountOutMin"] == quoted * 9950 // 10_000
    assert values["path"] == [scene["weth"], scene["usdc"]]
    assert values["to"] == scene.wallet.address
    assert values["deadline"] >= now + 1200
    assert (swap.value_units, swap.to) == (ETHER, scene["v2_router"])
    assert swap.movements == (Movement("send", Asset(31337), ETHER, scene["v2_router"]),)
    assert swap.about.startswith("Swap 1 ETH for at least 24")


async def test_the_deadline_counts_from_now_if_the_newest_block_is_older(scene: Scene) -> None:
    scene.node.rpc("evm_increaseTime", 1500)
    scene.ctx.now_ms += 1_500_000
    result = await scene.do(swap_uniswap_v2, tokenIn="native", tokenOut="usdc", amountIn=str(ETHER))
    assert int(result["amountOut"]) == int(result["quotedOut"])


async def test_its_approval_is_a_intent_of_its_own_and_counts_once(scene: Scene) -> None:
    spend = await scene.plan(
        swap_uniswap_v2, tokenIn="usdc", tokenOut="native", amountIn=str(USDC), recipient=CAROL, slippageBps=100
    )
    approve, swap = spend.intents
    router, asset = scene["v2_router"], Asset(31337, scene["usdc"])
    assert approve.movements == (Movement("approve", asset, USDC, router, of_swap=True, needed=USDC),)
    assert (approve.item, swap.item, swap.after) == ("approve", "swap", ("approve",))
    assert swap.movements == (Movement("send", asset, USDC, CAROL),), "what leaves for somebody else counts as theirs"


async def test_an_allowance_that_is_enough_needs_no_approval(scene: Scene) -> None:
    scene.witness.send("usdc", "approve", scene["v2_router"], USDC, sender=scene.wallet.address)
    enough = await scene.plan(swap_uniswap_v2, tokenIn="usdc", tokenOut="native", amountIn=str(USDC))
    assert [intent.item for intent in enough.intents] == ["swap"]
    more = await scene.plan(
        swap_uniswap_v2, tokenIn="usdc", tokenOut="native", amountIn=str(2 * USDC), approval="unlimited"
    )
    assert more.intents[0].movements[0].amount_units == MAX


@pytest.mark.parametrize(
    "name", ["cents", "whole", "fine", "rebasing", "false", "blocklist", "pausable", "reentrant", "race"]
)
async def test_odd_tokens_are_swapped_for_what_the_result_says(scene: Scene, name: str) -> None:
    """Each gets a pool of its own against WETH; the racy one has an allowance in the way."""
    pool_of(scene, name)
    me = scene.wallet.address
    if name == "race":
        scene.witness.send(name, "approve", scene["v2_router"], 3, sender=me)
    had, before = scene.witness.native(CAROL), scene.witness.balance(name, me)
    amount = unit(scene, name)
    result = await scene.do(
        swap_uniswap_v2, tokenIn=scene[name], tokenOut="native", amountIn=str(amount), recipient=CAROL
    )
    assert int(result["amountOut"]) == scene.witness.native(CAROL) - had == int(result["quotedOut"])
    assert int(result["amountIn"]) == before - scene.witness.balance(name, me) == amount
    items = [intent.item for intent in scene.wallet.seen[0].intents]
    assert items == (["approve-reset", "approve", "swap"] if name == "race" else ["approve", "swap"])
    back = await scene.do(swap_uniswap_v2, tokenIn="native", tokenOut=scene[name], amountIn=str(ETHER // 10))
    gained = scene.witness.balance(name, me) - before + amount
    assert int(back["amountOut"]) == gained > 0


def unit(scene: Scene, name: str) -> int:
    decimals: int = scene.witness.read(name, "decimals")
    units: int = 10**decimals
    return units


def pool_of(scene: Scene, name: str) -> None:
    router, amount = scene["v2_router"], 10_000 * unit(scene, name)
    scene.witness.send(name, "approve", router, amount)
    arguments = (scene[name], amount, 0, 0, ACCOUNTS[0], MAX)
    scene.witness.send("v2_router", "addLiquidityETH", *arguments, value=10 * ETHER)


async def test_a_fee_above_the_slippage_fails_before_it_is_signed(scene: Scene) -> None:
    scene.witness.send("fee", "approve", scene["v2_router"], MAX, sender=scene.wallet.address)
    with pytest.raises(Permanent, match="INSUFFICIENT_OUTPUT_AMOUNT"):
        await scene.plan(swap_uniswap_v2, tokenIn="fee", tokenOut="native", amountIn=str(ETHER), slippageBps=50)


async def test_a_paused_token_says_so_before(scene: Scene) -> None:
    pool_of(scene, "pausable")
    scene.witness.send("pausable", "approve", scene["v2_router"], MAX, sender=scene.wallet.address)
    scene.witness.send("pausable", "setPaused", True)
    with pytest.raises(Permanent, match="TRANSFER_FROM_FAILED"):
        await scene.plan(swap_uniswap_v2, tokenIn="pausable", tokenOut="native", amountIn=str(ETHER))


async def test_max_of_native_leaves_the_fee(scene: Scene) -> None:
    scene.node.set_balance(scene.wallet.address, ETHER)
    result = await scene.do(swap_uniswap_v2, tokenIn="native", tokenOut="usdc", amountIn="max")
    assert 0 < scene.witness.native(scene.wallet.address) < ETHER // 100
    assert int(result["amountIn"]) > ETHER * 99 // 100


@pytest.mark.parametrize(
    ("payload", "field", "message"),
    [
        ({"tokenOut": "native"}, "tokenOut", "ETH and ETH are the same"),
        ({"tokenOut": "weth"}, "tokenOut", "use wrap-native or unwrap-native"),
        ({"tokenOut": "whole"}, "tokenOut", "No pool of Uniswap V2 on Test chain"),
        ({"amountOutMin": str(10**12)}, "amountOutMin", r"The pools now give .*, less than 1000000 USDC"),
        ({"amountIn": None, "amountOut": "1000000", "amountInMax": "1"}, "amountInMax", "more than 0.0000000000000"),
        ({"amountIn": str(10**24)}, "amountIn", "moves the price by 9989 basis points, more than 1000"),
        ({"amountIn": str(10**24), "maxPriceImpactBps": 10_000}, "amountIn", "the swap may take 1000000 ETH"),
        ({"amountIn": None, "amountOut": str(10**15)}, "tokenOut", "No pool"),
        ({"router": CAROL}, "router", "no contract at the router"),
        ({"via": ["native"]}, r"via[0]", "is the native coin"),
        ({"recipient": "dai"}, "recipient", "is a token contract;"),
        ({"tokenIn": "ETHX"}, "tokenIn", "has no token"),
    ],
)
async def test_what_cannot_be_is_refused_by_field(
    scene: Scene, payload: dict[str, Any], field: str, message: str
) -> None:
    asked: dict[str, Any] = {"tokenIn": "native", "tokenOut": "usdc", "amountIn": str(ETHER // 10), **payload}
    asked["recipient"] = scene.witness.addresses.get(asked.get("recipient", ""), None)
    with pytest.raises(Invalid, match=message) as caught:
        await scene.plan(swap_uniswap_v2, **asked)
    assert caught.value.public_details()[0]["field"] == f"payload.{field}"


@pytest.mark.parametrize(("amount", "impact"), [(ETHER // 1000, 0), (ETHER, 99), (5 * ETHER, 475)])
async def test_the_price_impact_is_that_of_a_constant_product(scene: Scene, amount: int, impact: int) -> None:
    """100 WETH are in the pool: x of them move the price by about x / (100 + x)."""
    spend = await scene.plan(swap_uniswap_v2, tokenIn="native", tokenOut="usdc", amountIn=str(amount))
    assert spend.notes["impactBps"] == impact
    bought = await scene.plan(
        swap_uniswap_v2, tokenIn="native", tokenOut="usdc", amountOut=str(2500 * amount // 10**12)
    )
    assert abs(bought.notes["impactBps"] - impact) <= impact // 10 + 1


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ({}, "give either amountIn"),
        ({"amountIn": "1", "amountOut": "1"}, "not both"),
        ({"amountIn": "1", "amountInMax": "1"}, "amountInMax goes with amountOut"),
        ({"amountOut": "1", "amountOutMin": "1"}, "amountOutMin goes with amountIn"),
        ({"amountIn": "1", "slippageBps": 6000}, "less than or equal to 5000"),
        ({"amountIn": "0"}, "must be more than 0"),
    ],
)
async def test_amounts_that_do_not_go_together_are_refused(scene: Scene, payload: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        await scene.plan(swap_uniswap_v2, tokenIn="native", tokenOut="usdc", **payload)
