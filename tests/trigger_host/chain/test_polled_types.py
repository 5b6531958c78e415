"""Polled triggers that look at a chain: prices, and results of calls."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun.storage.db.trigger_tables import subscriptions
from testkit.chain.anvil import CHAIN_ID
from testkit.chain.pings import Pings
from testkit.chain.rpc_proxy import proxy
from testkit.chain_watching import Watching, watching
from testkit.news import News, serving

CELL = "0x00000000000000000000000000000000000c0de5"
READS_CELL = "0x5f545f5260205ff3"
"""Answers every call with the first word of its storage."""
FEED = "0x00000000000000000000000000000000000FEED5"
IS_FEED = "0x60085f525f5460205260015480604052606052600860805260a05ff3"
"""A price feed with 8 decimals: round 8, the price and its time from the first two words of its storage."""


@pytest.fixture
async def news() -> AsyncIterator[News]:
    async with serving() as news:
        yield news


@pytest.fixture
async def watched(pings: Pings, news: News, tmp_path: Path, store_url: str) -> AsyncIterator[Watching]:
    pings.node.rpc("anvil_setCode", CELL, READS_CELL)
    pings.node.rpc("anvil_setCode", FEED, IS_FEED)
    network = {"feeds": [{"token": None, "address": FEED, "decimals": 8, "heartbeatS": 3600}]}
    prices = {"price_url": news.url, "price_path": "usd", "price_keep_ms": 0, "test_coin_usd": "0"}
    quick = {"outbound_allow": ["127.0.0.1"], "min_trigger_interval_ms": 100}
    news.content = {"usd": "90"}
    async with watching(pings.node.url, tmp_path, network, database_url=store_url, **prices, **quick) as watched:
        yield watched


async def looked(watched: Watching, workflow_id: str, wanted: str, column: str = "cursor") -> None:
    """Waits until the stored cursor, or the error, has a text."""

    async def has_it() -> bool:
        query = sa.select(subscriptions.c[column]).where(subscriptions.c.workflow_id == workflow_id)
        return wanted in ((await watched.server.rows(query))[0][0] or "")

    await watched.until(has_it)


async def test_a_price_that_crosses_a_level_starts_one_run(watched: Watching, news: News) -> None:
    config = {"operation": "cross-up", "price": "100.5", "hysteresisPercent": "2", "maxTriggers": 2, "pollMs": 100}
    workflow_id = await watched.publish("token-price", **config)
    for usd, until in (("101", "101"), ("99", "99"), ("101.25", "101.25"), ("98", "98"), ("102", "102")):
        news.content = {"usd": usd}
        await looked(watched, workflow_id, f'"{until}"')
    bodies = await watched.until_count(workflow_id, 2)
    assert [(body["usd"], body["previous"], body["against"]) for body in bodies] == [(101, 90, 100.5), (102, 98, 100.5)]
    assert {(body["token"], body["priceSource"], body["chainId"]) for body in bodies} == {("native", "http", CHAIN_ID)}
    state = await watched.subscription(workflow_id)
    assert (state["state"], state["state_reason"]) == ("ended", "over")


async def test_a_price_that_no_source_gives_or_that_is_stale_starts_nothing(watched: Watching, news: News) -> None:
    config = {"operation": "above", "price": 100, "fireOnFirst": True, "pollMs": 100}
    workflow_id = await watched.publish("token-price", **config)
    news.status, news.content = 404, {"usd": "1"}
    await looked(watched, workflow_id, "UNPRICED", "last_error")
    news.status, news.content = 200, {"usd": "-1"}
    await looked(watched, workflow_id, "no positive price", "last_error")
    assert await watched.events(workflow_id) == []
    news.content = {"usd": "120"}
    (body,) = await watched.until_count(workflow_id, 1)
    assert (body["usd"], body["previous"]) == (120, 90)


RICH, POOR = "0x00000000000000000000000000000000000A11CE", "0x0000000000000000000000000000000000000B0B"


def pay(pings: Pings, address: str, milli: int) -> None:
    pings.node.rpc("anvil_setBalance", address, hex(milli * 10**15))


async def test_each_balance_that_crosses_a_level_starts_one_run(watched: Watching, pings: Pings) -> None:
    pay(pings, RICH, 100)
    pay(pings, POOR, 10)
    config = {"address": [RICH, POOR], "operation": "below", "level": "0.05", "hysteresisPercent": "20", "pollMs": 100}
    workflow_id = await watched.publish("balance-level", **config)
    for milli in (49, 55, 48, 70, 50):  # 55 is within the hysteresis: 48 does not count
        pay(pings, RICH, milli)
        await looked(watched, workflow_id, f'"0.0{milli}"'.replace('0"', '"'))
    bodies = await watched.until_count(workflow_id, 2)
    assert [(one["balanceFormatted"], one["previousFormatted"]) for one in bodies] == [
        ("0.049", "0.1"),
        ("0.05", "0.07"),
    ]
    assert {(one["address"].lower(), one["level"], one["tokenAddress"]) for one in bodies} == {
        (RICH.lower(), "0.05", None)
    }
    pay(pings, POOR, 90)
    await looked(watched, workflow_id, '"0.09"')
    pay(pings, POOR, 1)
    assert (await watched.until_count(workflow_id, 3))[-1]["balance"] == str(10**15)


async def test_a_number_of_a_contract_that_falls_below_a_level_starts_a_run(watched: Watching, pings: Pings) -> None:
    def set_cell(value: int) -> None:
        pings.node.rpc("anvil_setStorageAt", CELL, "0x0", f"0x{value:064x}")

    set_cell(15 * 10**17)
    call = {"contract": CELL, "function": "health() view returns (uint256)", "decimals": 18, "pollMs": 100}
    workflow_id = await watched.publish("evm-call-level", **call, operation="below", level="1.2")
    for value, shown in ((12 * 10**17, "1.2"), (11 * 10**17, "1.1"), (2**256 - 1, "1157"), (10**18, "1")):
        set_cell(value)
        await looked(watched, workflow_id, f'"{shown}')
    bodies = await watched.until_count(workflow_id, 2)
    largest = f"{(2**256 - 1) // 10**18}.{(2**256 - 1) % 10**18:018d}"
    assert [(f"{float(one['value'])}", one["previous"][:4]) for one in bodies] == [
        ("1.2", "1.50"),
        ("1.0", largest[:4]),
    ]
    assert bodies[1]["previous"] == largest


def set_feed(pings: Pings, usd: int, age_s: int) -> None:
    """The feed's price, as old as that at the newest block."""
    at = int(pings.node.rpc("eth_getBlockByNumber", "latest", False)["timestamp"], 16) - age_s
    for slot, word in (("0x1", at), ("0x0", usd * 10**8)):
        pings.node.rpc("anvil_setStorageAt", FEED, slot, f"0x{word:064x}")


async def test_a_stale_feed_never_fires(watched: Watching, pings: Pings) -> None:
    set_feed(pings, 90, age_s=0)
    config = {"operation": "cross-up", "price": 100, "source": "feed", "maxAgeMs": 600_000, "pollMs": 100}
    workflow_id = await watched.publish("token-price", **config)
    set_feed(pings, 120, age_s=700)
    await looked(watched, workflow_id, "The price is stale: feed set it 700000 ms ago", "last_error")
    set_feed(pings, 120, age_s=3700)
    await looked(watched, workflow_id, "over its heartbeat of 3600 s", "last_error")
    assert await watched.events(workflow_id) == []
    set_feed(pings, 120, age_s=5)
    (body,) = await watched.until_count(workflow_id, 1)
    assert (body["usd"], body["priceSource"], body["priceAgeMs"]) == (120, "feed", 5000)


async def test_the_source_that_is_named_must_have_the_price(watched: Watching) -> None:
    workflow_id = await watched.create("token-price", operation="above", price=100, source="dex")
    refused = await watched.server.owner.post(f"/v1/workflows/{workflow_id}/publish")
    assert refused.status == 400
    assert [one["field"] for one in refused.body["details"]] == ["nodes.root.payload.asset"]


UNWATCHED_PRICES: tuple[tuple[dict[str, Any], str], ...] = (
    ({"operation": "cross-up"}, "needs price"),
    ({"operation": "change-percent"}, "needs percent"),
    ({"operation": "cross-up", "price": 1, "fireOnFirst": True}, "fits above and below"),
    ({"operation": "change-percent", "percent": 1, "windowMs": 604_800_000}, "1000 times"),
    ({"operation": "above", "price": "1e3x"}, "string that contains one"),
    ({"operation": "above", "price": 1, "asset": "NOPE"}, 'no token "NOPE"'),
    ({"operation": "above", "price": 1, "chainId": 999}, "999"),
)


async def test_prices_that_cannot_be_watched(watched: Watching) -> None:
    for config, message in UNWATCHED_PRICES:
        workflow_id = await watched.create("token-price", **config)
        refused = await watched.server.owner.post(f"/v1/workflows/{workflow_id}/publish")
        assert refused.status == 400, config
        assert any(message.lower() in one["message"].lower() for one in refused.body["details"]), refused.body


def set_cell(pings: Pings, value: int) -> None:
    pings.node.rpc("anvil_setStorageAt", CELL, "0x0", f"0x{value:064x}")


async def test_a_result_that_changes_starts_a_run_if_the_condition_holds(watched: Watching, pings: Pings) -> None:
    set_cell(pings, 5)
    called = {"contract": CELL, "function": "level() view returns (uint256)", "pollMs": 100}
    workflow_id = await watched.publish("evm-call-changed", **called, condition="int(new) > int(old)")
    for value in (9, 3, 4 * 10**20):
        set_cell(pings, value)
        await looked(watched, workflow_id, f'"{value}"')
    bodies = await watched.until_count(workflow_id, 2)
    assert [(body["old"], body["new"]) for body in bodies] == [("5", "9"), ("3", str(4 * 10**20))]
    assert {(body["contract"].lower(), body["function"]) for body in bodies} == {(CELL, "level()")}


async def test_a_machine_behind_an_endpoint_that_is_behind_changes_nothing(pings: Pings, tmp_path: Path) -> None:
    pings.node.rpc("anvil_setCode", CELL, READS_CELL)
    set_cell(pings, 5)
    called = {"contract": CELL, "function": "level() view returns (uint256)", "pollMs": 100}
    network = {"isLocal": False}
    async with (
        proxy(pings.node.url) as endpoint,
        watching(endpoint.url, tmp_path, network, min_trigger_interval_ms=100) as one,
    ):
        workflow_id = await one.publish("evm-call-changed", **called)
        pings.node.mine()
        set_cell(pings, 9)
        await one.until_count(workflow_id, 1)
        before, asked = pings.node.rpc("eth_getBlockByNumber", hex(pings.head - 1), False), [0]

        def behind(call: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
            asked[0] += 1
            if call["method"] == "eth_call" and call["params"][1] in ("latest", {"blockHash": before["hash"]}):
                return {**answer, "result": f"0x{5:064x}"}
            if call["method"] == "eth_call":
                return {"jsonrpc": "2.0", "id": call["id"], "error": {"code": -32000, "message": "unknown block"}}
            return {**answer, "result": before} if call["method"] == "eth_getBlockByNumber" else answer

        endpoint.twist = behind

        async def has_asked() -> bool:
            return asked[0] > 6

        await one.until(has_asked)
        endpoint.twist = None
        set_cell(pings, 10)
        bodies = await one.until_count(workflow_id, 2)
        assert [(body["old"], body["new"]) for body in bodies] == [("5", "9"), ("9", "10")]


UNWATCHED_CALLS: tuple[tuple[dict[str, Any], str, str], ...] = (
    ({"contract": "0x" + "77" * 20, "function": "level() returns (uint256)"}, "contract", "no contract at"),
    ({"contract": CELL, "function": "level()"}, "function", "does not say what it returns"),
    ({"contract": CELL, "function": "set(uint256) payable returns (uint256)"}, "function", "payable"),
    ({"contract": CELL, "function": "level(uint8) returns (uint256)", "args": [256]}, "args", "out of range"),
    ({"contract": CELL, "function": "level() returns (uint256)", "condition": "now > 1"}, "condition", "new"),
    ({"contract": CELL, "function": "level() returns (string)"}, "function", "does not match its signature"),
    ({"contract": CELL, "function": "level() returns (bool)", "condition": "1"}, "condition", "true or false"),
    ({"contract": CELL, "function": "level() returns (bool)", "condition": "new > 1"}, "condition", "does not fit"),
)


async def test_calls_that_cannot_be_watched(watched: Watching, pings: Pings) -> None:
    set_cell(pings, 1)
    for config, field, message in UNWATCHED_CALLS:
        workflow_id = await watched.create("evm-call-changed", **config)
        refused = await watched.server.owner.post(f"/v1/workflows/{workflow_id}/publish")
        assert refused.status == 400, config
        details = [(one["field"], one["message"]) for one in refused.body["details"]]
        assert any(at == f"nodes.root.payload.{field}" and message in text for at, text in details), details
