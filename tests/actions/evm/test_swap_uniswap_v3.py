from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import ValidationError

from actions.evm.conftest import Scene, make_context
from dustrun.actions.evm.swap_uniswap_v3 import swap_uniswap_v3
from dustrun.chain.chains import Chains
from dustrun.core.money.intent import Movement
from dustrun.core.values.amounts import Asset
from dustrun.errors import Invalid
from dustrun.settings import Settings
from testkit.chain.anvil import ACCOUNTS, CHAIN_ID
from testkit.chain.contracts import ETHER, World

CAROL = ACCOUNTS[2]
USDC = 10**6


@pytest.fixture(params=["swap-router", "swap-router-02"])
async def routed(request: pytest.FixtureRequest, scene: Scene, world: World) -> AsyncIterator[Scene]:
    """The scene with the first router, and with the one that newer chains have."""
    if request.param == "swap-router":
        yield scene
        return
    parts = ("v2_factory", "v3_factory", "v3_positions", "weth")
    router = scene.witness.deploy("v3_router_02", *(scene[name] for name in parts))
    network = world.network(scene.node.url)
    dex = network.dex.model_copy(update={"v3_router": router, "v3_router_kind": "swap-router-02"})
    chains = Chains({CHAIN_ID: network.model_copy(update={"dex": dex})}, Settings())
    scene.ctx = make_context(chains, scene.wallet)
    yield scene
    await chains.close()


def balance(scene: Scene, coin: str, who: str) -> int:
    return scene.witness.native(who) if coin == "native" else scene.witness.balance(coin, who)


def gas_of(scene: Scene, *hashes: str | None) -> int:
    receipts: list[Any] = [scene.witness.web3.eth.get_transaction_receipt(hash) for hash in hashes if hash]  # type: ignore[arg-type]
    return sum(found["gasUsed"] * found["effectiveGasPrice"] for found in receipts)


@pytest.mark.parametrize("mine", [True, False], ids=["for-me", "for-carol"])
@pytest.mark.parametrize(
    ("given", "wanted", "amount", "more"),
    [
        ("native", "usdc", ETHER // 100, {}),
        ("usdc", "native", 25 * USDC, {}),
        ("usdc", "dai", 25 * USDC, {"fees": [500]}),
        ("native", "dai", ETHER // 100, {"via": ["usdc"], "fees": [3000, 500]}),
        ("dai", "native", 25 * ETHER, {"via": ["usdc"], "fees": [500, 3000]}),
    ],
)
async def test_exact_in_gets_what_the_result_says(
    routed: Scene, given: str, wanted: str, amount: int, more: dict[str, Any], mine: bool
) -> None:
    me = routed.wallet.address
    whom = me if mine else CAROL
    before, had = balance(routed, given, me), balance(routed, wanted, whom)
    payload = more if mine else {**more, "recipient": CAROL}
    result = await routed.do(swap_uniswap_v3, tokenIn=given, tokenOut=wanted, amountIn=str(amount), **payload)
    gas = gas_of(routed, result["hash"], result["approvalHash"])
    given_gas, got_gas = (gas if coin == "native" else 0 for coin in (given, wanted))
    assert before - balance(routed, given, me) - given_gas == amount == int(result["amountIn"])
    got = balance(routed, wanted, whom) - had + (got_gas if mine else 0)
    assert int(result["amountOut"]) == got == int(result["quotedOut"]) > 0
    assert result["recipient"] == whom
    assert result["fees"] == more.get("fees", [500])
    assert len(result["route"]) == len(result["fees"]) + 1


@pytest.mark.parametrize(
    ("given", "wanted", "amount", "more"),
    [
        ("native", "usdc", 25 * USDC, {}),
        ("usdc", "native", ETHER // 100, {}),
        ("usdc", "dai", 25 * ETHER, {}),
        ("native", "dai", 25 * ETHER, {"via": ["usdc"], "fees": [500, 500]}),
    ],
)
async def test_exact_out_gives_no_more_than_needed(
    routed: Scene, given: str, wanted: str, amount: int, more: dict[str, Any]
) -> None:
    me = routed.wallet.address
    before, had = balance(routed, given, me), balance(routed, wanted, CAROL)
    result = await routed.do(
        swap_uniswap_v3, tokenIn=given, tokenOut=wanted, amountOut=str(amount), recipient=CAROL, **more
    )
    gas = gas_of(routed, result["hash"]) if given == "native" else 0
    assert balance(routed, wanted, CAROL) - had == amount == int(result["amountOut"])
    assert before - balance(routed, given, me) - gas == int(result["amountIn"]) == int(result["quotedIn"])
    router = routed.wallet.seen[0].intents[-1].to
    assert router is not None
    assert (routed.witness.native(router), routed.witness.balance("weth", router)) == (0, 0), "nothing is left behind"


async def test_the_best_fee_is_the_one_that_the_quoter_says(scene: Scene) -> None:
    quoter = scene.witness.contract("v3_quoter")
    quotes = {
        fee: quoter.functions.quoteExactInputSingle((scene["weth"], scene["usdc"], 40 * ETHER, fee, 0)).call()[0]
        for fee in (500, 3000)
    }
    best = max(quotes, key=lambda fee: quotes[fee])
    spend = await scene.plan(
        swap_uniswap_v3, tokenIn="native", tokenOut="usdc", amountIn=str(40 * ETHER), maxPriceImpactBps=10_000
    )
    assert spend.notes["fees"] == [best]
    assert int(spend.notes["quotedOut"]) == quotes[best]
    (swap,) = spend.intents
    _, values = scene.witness.contract("v3_router").decode_function_input(swap.data)
    assert values["params"]["amountOutMinimum"] == quotes[best] * 9950 // 10_000
    assert values["params"]["recipient"] == scene.wallet.address
    assert values["params"]["deadline"] >= scene.witness.web3.eth.get_block("latest")["timestamp"] + 1200
    assert swap.movements == (Movement("send", Asset(31337), 40 * ETHER, scene["v3_router"]),)
    assert swap.method == "exactInput((bytes,address,uint256,uint256,uint256))"


async def test_its_approval_is_a_intent_of_its_own(scene: Scene) -> None:
    spend = await scene.plan(swap_uniswap_v3, tokenIn="usdc", tokenOut="native", amountIn=str(USDC))
    approve, swap = spend.intents
    router, asset = scene["v3_router"], Asset(31337, scene["usdc"])
    assert approve.movements == (Movement("approve", asset, USDC, router, of_swap=True, needed=USDC),)
    assert swap.movements == (Movement("send", asset, USDC, router),)
    assert (swap.after, swap.method) == (("approve",), "multicall(bytes[])")


async def test_dust_of_a_permille_keeps_its_limit(scene: Scene) -> None:
    """4e12 wei are worth a cent; the smallest unit of USDC is far below what comes out."""
    result = await scene.do(swap_uniswap_v3, tokenIn="native", tokenOut="usdc", amountIn=str(4 * 10**12))
    assert int(result["amountOut"]) == int(result["quotedOut"]) > 9_000


@pytest.mark.parametrize(
    ("payload", "field", "message"),
    [
        ({"tokenOut": "whole"}, "tokenOut", "No pool of Uniswap V3"),
        ({"fees": [10_000]}, "tokenOut", "No pool of Uniswap V3"),
        ({"amountIn": "1"}, "amountIn", "pools give nothing for"),
        ({"amountIn": str(40 * ETHER)}, "amountIn", "moves the price by 4433 basis points, more than 1000"),
        ({"amountIn": None, "amountOut": str(80_000 * USDC)}, "amountOut", "basis points, more than 1000"),
        ({"amountOutMin": str(10**12)}, "amountOutMin", "less than 1000000 USDC"),
        ({"amountIn": None, "amountOut": "1000000", "amountInMax": "1"}, "amountInMax", "more than 0.00000000"),
        ({"via": ["native"], "fees": [500, 500]}, "via[0]", "native coin"),
    ],
)
async def test_what_cannot_be_is_refused_by_field(
    scene: Scene, payload: dict[str, Any], field: str, message: str
) -> None:
    asked: dict[str, Any] = {"tokenIn": "native", "tokenOut": "usdc", "amountIn": str(ETHER // 10), **payload}
    with pytest.raises(Invalid, match=message) as caught:
        await scene.plan(swap_uniswap_v3, **asked)
    assert caught.value.public_details()[0]["field"] == f"payload.{field}"


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ({"via": ["usdc"]}, "with via, fees must give"),
        ({"via": ["usdc"], "fees": [500]}, "there are 2 pools"),
        ({"fees": [0]}, "a fee must be from 1"),
    ],
)
async def test_routes_that_do_not_fit_are_refused(scene: Scene, payload: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        await scene.plan(swap_uniswap_v3, tokenIn="native", tokenOut="dai", amountIn="1", **payload)
