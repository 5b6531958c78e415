"""Tests of a config: real events of a chain or a source, labelled, within bounds; else a sample that says why."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from testkit.chain.anvil import Anvil
from testkit.chain.pings import WORDS, Pings
from testkit.chain_watching import PINGED, Watching, watching
from testkit.composition import Client
from testkit.news import News, serving


@pytest.fixture
def pings() -> Iterator[Pings]:
    with Anvil(*WORDS) as node:
        made = Pings(node, Random(5))
        made.install()
        yield made


@pytest.fixture
async def watched(pings: Pings, tmp_path: Path, store_url: str) -> AsyncIterator[Watching]:
    async with watching(pings.node.url, tmp_path, database_url=store_url, outbound_allow=["127.0.0.1"]) as watched:
        yield watched


async def outcome_of(api: Client, kind: str, config: dict[str, Any], **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = (await api.post(f"/v1/triggers/{kind}/test", {"config": config, **more})).data
    return found


async def test_a_chain_trigger_shows_its_newest_real_event_or_a_sample(watched: Watching, pings: Pings) -> None:
    api = watched.server.owner
    none = await outcome_of(api, "evm-log", PINGED)
    assert (none["origin"], none["note"].startswith("There is none in blocks 0 to ")) == ("sample", True)
    pings.send(3)
    pings.node.mine(20)
    found = await outcome_of(api, "evm-log", PINGED)
    assert found["origin"] == "recent"
    assert found["note"] == f"From block {found['event']['blockNumber']} of chain {PINGED['chainId']}."
    logs = pings.node.rpc("eth_getLogs", {"fromBlock": "0x0", "address": PINGED["address"]})
    newest = max(logs, key=lambda log: (int(log["blockNumber"], 16), int(log["logIndex"], 16)))
    assert (found["event"]["transactionHash"], found["event"]["logIndex"]) == (
        newest["transactionHash"],
        int(newest["logIndex"], 16),
    )
    assert (await outcome_of(api, "evm-block", {"chainId": PINGED["chainId"], "every": 5}))["event"][
        "blockNumber"
    ] % 5 == 0


@pytest.mark.long
async def test_an_event_behind_the_newest_2000_blocks_is_not_recent(watched: Watching, pings: Pings) -> None:
    pings.send(3)
    pings.node.mine(2_000)
    assert (await outcome_of(watched.server.owner, "evm-log", PINGED))["origin"] == "recent"
    pings.node.mine(1)
    assert (await outcome_of(watched.server.owner, "evm-log", PINGED))["origin"] == "sample"


async def test_a_polled_trigger_asks_its_source_only_for_who_may_send_requests(watched: Watching) -> None:
    async with serving() as news:
        news.content = [{"id": 1}, {"id": 2}]
        config = {"url": news.url, "items": "body", "itemKey": "item.id"}
        reader = await watched.server.client_with("workflow:read")
        refused = await outcome_of(reader, "http-poll", config)
        assert (refused["origin"], '"run:inline"' in refused["note"], news.asked) == ("sample", True, [])
        found = await outcome_of(watched.server.owner, "http-poll", config)
        assert (found["origin"], found["event"]["item"], found["note"]) == (
            "recent",
            {"id": 2},
            "As the source shows it now.",
        )
        await _when_it_fails(watched.server.owner, news, config)


async def _when_it_fails(api: Client, news: News, config: dict[str, Any]) -> None:
    news.status = 503
    found = await outcome_of(api, "http-poll", config)
    assert (found["origin"], found["note"]) == (
        "sample",
        "None could be found: The source answers with status 503.",
    )
