from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from actions.evm.conftest import Scene
from dustrun.actions.evm.write_contract import write_contract
from dustrun.core.money.intent import Movement
from dustrun.core.values.amounts import Asset
from dustrun.errors import Invalid
from testkit.chain.anvil import ACCOUNTS
from testkit.chain.contracts import ETHER, MAX, artifact

CAROL = ACCOUNTS[2]


async def test_a_call_happens_and_its_events_are_decoded(scene: Scene) -> None:
    before = scene.witness.read("zoo", "counter")
    result = await scene.do(
        write_contract,
        contract=scene["zoo"],
        function="count()",
        events=["Ping(uint256 indexed n, address who)"],
    )
    assert scene.witness.read("zoo", "counter") == before + 1
    me = scene.wallet.address
    assert result["events"] == [{"contract": scene["zoo"], "name": "Ping", "args": {"n": str(before + 1), "who": me}}]
    receipt: Any = scene.witness.web3.eth.get_transaction_receipt(result["hash"])
    assert result["function"] == "count()"
    assert [log["data"] for log in result["logs"]] == [log["data"].to_0x_hex() for log in receipt["logs"]]
    assert result["logs"][0]["topics"] == [topic.to_0x_hex() for topic in receipt["logs"][0]["topics"]]


async def test_an_abi_decodes_arguments_and_hashed_topics(scene: Scene) -> None:
    abi, _ = artifact("zoo")
    result = await scene.do(write_contract, contract=scene["zoo"], abi=abi, function="name", args={"name_": "é"})
    (event,) = result["events"]
    assert event["args"]["name"] == scene.witness.web3.keccak(text="é").to_0x_hex(), "an indexed text is a hash"
    assert event["args"]["point"] == {"x": "-1", "who": scene.wallet.address}
    assert event["args"]["data"] == "0xc3a9"


async def test_value_goes_with_the_call_and_counts(scene: Scene) -> None:
    had = scene.witness.native(CAROL)
    payload = {"contract": scene["forwarder"], "function": "forward(address to)", "args": [CAROL], "value": str(ETHER)}
    result = await scene.do(write_contract, **payload)
    assert scene.witness.native(CAROL) - had == ETHER
    assert result["function"] == "forward(address)"
    (intent,) = scene.wallet.seen[0].intents
    assert intent.movements == (Movement("send", Asset(31337), ETHER, scene["forwarder"]),)
    assert intent.is_decoded


@pytest.mark.parametrize(
    ("function", "args", "movement"),
    [
        ("transfer(address,uint256)", [CAROL, 5], ("send", 5, CAROL)),
        ("approve(address,uint256)", [CAROL, str(MAX)], ("approve", MAX, CAROL)),
    ],
)
async def test_well_known_functions_count_as_what_they_move(
    scene: Scene, function: str, args: list[Any], movement: tuple[Any, ...]
) -> None:
    (intent,) = (await scene.plan(write_contract, contract=scene["usdc"], function=function, args=args)).intents
    kind, amount, whom = movement
    assert intent.movements == (Movement(kind, Asset(31337, scene["usdc"]), amount, whom),)


async def test_another_name_for_a_well_known_function_hides_nothing(scene: Scene) -> None:
    """`many_msg_babbage(bytes1)` has the selector of `transfer`: what counts is the calldata."""
    data = "0x" + scene.witness.data("usdc", "transfer", CAROL, 7).hex()
    (intent,) = (await scene.plan(write_contract, contract=scene["usdc"], data=data)).intents
    assert intent.movements == (Movement("send", Asset(31337, scene["usdc"]), 7, CAROL),)
    assert (intent.is_decoded, intent.method) == (True, None)


async def test_calldata_that_nobody_can_read_says_so(scene: Scene) -> None:
    data = "0x" + scene.witness.data("zoo", "count").hex()
    (intent,) = (await scene.plan(write_contract, contract=scene["zoo"], data=data)).intents
    assert (intent.is_decoded, intent.method, intent.movements) == (False, None, ())
    assert "unread calldata" in intent.about


@pytest.mark.parametrize(
    ("payload", "field", "message"),
    [
        ({"contract": CAROL}, "contract", "no contract at"),
        ({"function": "count(", "args": []}, "function", "parentheses"),
        ({"function": "panicDivision(uint256)", "args": ["x"]}, "args[0]", "must be an integer"),
        ({"function": "counter() view returns (uint256)"}, "function", "use read-contract"),
        ({"function": "count", "abi": "zoo", "value": "1"}, "value", "is not payable"),
        ({"events": ["Ping"]}, "events", "is not a signature"),
        (
            {"contract": "forwarder", "function": "forward(address)", "args": [CAROL], "value": str(10**24)},
            "value",
            "ETH",
        ),
    ],
)
async def test_what_does_not_fit_is_refused_by_field(
    scene: Scene, payload: dict[str, Any], field: str, message: str
) -> None:
    asked: dict[str, Any] = {"contract": "zoo", "function": "count()", **payload}
    asked["contract"] = scene.witness.addresses.get(asked["contract"], asked["contract"])
    if asked.get("abi") == "zoo":
        asked["abi"] = artifact("zoo")[0]
    with pytest.raises(Invalid, match=message) as caught:
        await scene.plan(write_contract, **asked)
    assert caught.value.public_details()[0]["field"] == f"payload.{field}"


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ({}, "give either function"),
        ({"function": "f()", "data": "0x00"}, "not both"),
        ({"data": "0x0"}, "by an even number of hexadecimal"),
        ({"data": "0x00", "args": [1]}, "args require function;"),
        ({"function": "f()", "value": "-1"}, "without sign"),
        ({"function": "f()", "contract": "0x" + "0" * 40}, "zero address"),
    ],
)
async def test_a_bad_input_is_refused(scene: Scene, payload: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        await scene.plan(write_contract, **{"contract": scene["zoo"], **payload})
