from __future__ import annotations

from typing import Any

import pytest

from actions.evm.conftest import Scene
from dustrun.actions.evm.send_erc20_token import send_erc20_token
from dustrun.core.money.intent import Intent, Movement
from dustrun.core.values.amounts import Asset, format_units
from dustrun.errors import Invalid, Permanent
from testkit.chain.anvil import ACCOUNTS
from testkit.chain.contracts import TOKENS

CAROL = ACCOUNTS[2]
ODD = ["cents", "whole", "fine", "fee", "rebasing", "false", "blocklist", "pausable", "reentrant", "race", "weth"]


async def test_it_sends_and_the_witness_agrees(scene: Scene) -> None:
    before, had = (scene.witness.balance("usdc", who) for who in (scene.wallet.address, CAROL))
    result = await scene.do(send_erc20_token, token="usdc", recipient=CAROL, amount="25000000", decimals=6)
    assert before - scene.witness.balance("usdc", scene.wallet.address) == 25_000_000
    assert scene.witness.balance("usdc", CAROL) - had == 25_000_000
    assert (
        result.items()
        >= {
            "token": scene["usdc"],
            "symbol": "USDC",
            "decimals": 6,
            "recipient": CAROL,
            "amount": "25000000",
            "amountFormatted": "25",
            "amountSent": "25000000",
            "amountReceived": "25000000",
            "amountReceivedFormatted": "25",
        }.items()
    )
    receipt: Any = scene.witness.web3.eth.get_transaction_receipt(result["hash"])
    assert (result["blockNumber"], result["gasUsed"]) == (receipt["blockNumber"], str(receipt["gasUsed"]))


@pytest.mark.parametrize("name", ODD)
async def test_odd_tokens_arrive_and_results_say_how_much(scene: Scene, name: str) -> None:
    units = 7 * 10 ** TOKENS[name]
    before, had = (scene.witness.balance(name, who) for who in (scene.wallet.address, CAROL))
    result = await scene.do(send_erc20_token, token=scene[name], recipient=CAROL, amount=str(units))
    assert int(result["amountSent"]) == before - scene.witness.balance(name, scene.wallet.address) == units
    assert int(result["amountReceived"]) == scene.witness.balance(name, CAROL) - had
    assert int(result["amountReceived"]) == (units * 99 // 100 if name == "fee" else units)
    assert (result["decimals"], result["amountFormatted"]) == (TOKENS[name], format_units(units, TOKENS[name]))


async def test_a_rebased_balance_is_sent_whole_by_max(scene: Scene) -> None:
    scene.witness.send("rebasing", "rebase", 150)
    balance = scene.witness.balance("rebasing", scene.wallet.address)
    result = await scene.do(send_erc20_token, token=scene["rebasing"], recipient=CAROL, amount="max")
    assert int(result["amount"]) == balance == 1_500_000 * 10**18
    assert scene.witness.balance("rebasing", scene.wallet.address) == 0


async def test_a_recipient_that_pulls_more_shows_in_what_left(scene: Scene) -> None:
    greedy = scene["greedy"]
    scene.witness.send("reentrant", "approve", greedy, 100, sender=scene.wallet.address)
    result = await scene.do(send_erc20_token, token=scene["reentrant"], recipient=greedy, amount="100")
    assert (result["amount"], result["amountSent"], result["amountReceived"]) == ("100", "200", "200")


async def test_its_intent_says_all(scene: Scene) -> None:
    spend = await scene.plan(send_erc20_token, token="USDC", recipient=CAROL, amount="5")
    (intent,) = spend.intents
    assert Intent.of(intent.public()) == intent
    assert intent.movements == (Movement("send", Asset(31337, scene["usdc"]), 5, CAROL),)
    assert (intent.to, intent.value_units, intent.method) == (scene["usdc"], 0, "transfer(address,uint256)")
    assert intent.data == scene.witness.data("usdc", "transfer", CAROL, 5)
    assert intent.about == f"Send 0.000005 USDC to {CAROL} on Test chain"


@pytest.mark.parametrize(
    ("payload", "field", "message"),
    [
        ({"token": "USDX"}, "token", 'Did you mean "USDC"'),
        ({"token": "native"}, "token", "is the native coin"),
        ({"token": CAROL}, "token", "no contract at"),
        ({"token": "0x" + "0" * 40}, "token", "zero address is not a token;"),
        ({"token": "zoo"}, "token", "does not answer decimals"),
        ({"decimals": 18}, "decimals", "has 6 decimals, not 18: the amount would be 1000000000000 times too large"),
        ({"recipient": "usdc"}, "recipient", "contract of USDC itself"),
        ({"recipient": "dai"}, "recipient", "is a token contract;"),
        ({"amount": str(10**13)}, "amount", "has 1000000 USDC, not 10000000 USDC"),
    ],
)
async def test_what_cannot_be_is_refused_before(
    scene: Scene, payload: dict[str, Any], field: str, message: str
) -> None:
    asked = {"token": "USDC", "recipient": CAROL, "amount": "1"} | payload
    for name in ("token", "recipient"):
        if asked[name] != "USDC":
            asked[name] = scene.witness.addresses.get(asked[name], asked[name])
    with pytest.raises(Invalid, match=message) as caught:
        await scene.plan(send_erc20_token, **asked)
    assert caught.value.public_details()[0]["field"] == f"payload.{field}"


async def test_max_of_nothing_is_refused(scene: Scene) -> None:
    scene.witness.send("usdc", "burn", 10**12, sender=scene.wallet.address)
    with pytest.raises(Invalid, match="nothing to send"):
        await scene.plan(send_erc20_token, token="USDC", recipient=CAROL, amount="max")


# answers 18 to decimals(), 1000 to balanceOf(), 0 to all else
_SAYS_FALSE = (
    "0x5f3560e01c"  # the selector
    "8063313ce56714601f57"
    "6370a0823114602857"
    "5f5f5260205ff3"
    "5b60125f5260205ff3"
    "5b6103e85f5260205ff3"
)


async def test_a_token_that_says_false_is_found_out_before(scene: Scene) -> None:
    liar = "0x00000000000000000000000000000000000000F1"
    scene.node.rpc("anvil_setCode", liar, _SAYS_FALSE)
    with pytest.raises(Invalid, match="returns false for the transfer:") as caught:
        await scene.plan(send_erc20_token, token=liar.lower(), recipient=CAROL, amount="5")
    assert caught.value.public_details()[0]["field"] == "payload.token"


async def test_a_token_that_lies_about_success_fails_the_node(scene: Scene) -> None:
    """It says true and moves nothing, so the node must not succeed."""
    liar = "0x00000000000000000000000000000000000000F1"
    scene.node.rpc(
        "anvil_setCode", liar, _SAYS_FALSE.replace("5f5f52", "60015f52").replace("1f57", "2057").replace("2857", "2957")
    )
    with pytest.raises(Permanent, match="moved nothing, against its return value"):
        await scene.do(send_erc20_token, token=liar.lower(), recipient=CAROL, amount="5")


@pytest.mark.parametrize(
    ("token", "spoil", "message"),
    [
        ("pausable", ("setPaused", True), "EnforcedPause|0xd93c0665|revert"),
        ("blocklist", ("setBlocked", CAROL, True), "Blacklistable: account is blacklisted"),
    ],
)
async def test_a_token_that_refuses_says_why_before(
    scene: Scene, token: str, spoil: tuple[Any, ...], message: str
) -> None:
    scene.witness.send(token, *spoil)
    with pytest.raises(Permanent, match=message):
        await scene.plan(send_erc20_token, token=scene[token], recipient=CAROL, amount="5")
