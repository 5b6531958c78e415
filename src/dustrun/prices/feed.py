"""On-chain price feeds with Chainlink's AggregatorV3Interface, as listed in the network file.

An answer is used if it is positive, was updated within the feed's heartbeat, belongs to the current round, and has the
decimals of the network file. On an L2 the sequencer must also have been up for an hour.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from dustrun.core.evm.abi import AbiFault
from dustrun.core.evm.abi_signatures import parse_function
from dustrun.core.evm.network import Feed, Network
from dustrun.prices.source import PriceFault, PriceQuestion, same_worth
from dustrun.sdk.chain import CallResult, ChainCall, Price

_ROUND: Final = parse_function("latestRoundData() view returns (uint80, int256, uint256, uint256, uint80)")
_DECIMALS: Final = parse_function("decimals() view returns (uint8)")
_GRACE_S: Final = 3600
_AHEAD_S: Final = 300  # how far a feed's clock may be ahead of ours


class FeedPrices:
    """Prices from the feeds of all networks."""

    name = "feed"

    async def price(self, question: PriceQuestion) -> Price | None:
        """The price of the asset's feed, or of the feed of its wrapped or native form; raises `PriceFault`."""
        feed = _find_feed(question)
        if feed is None:
            return None
        calls = [ChainCall(feed.address, _ROUND.selector), ChainCall(feed.address, _DECIMALS.selector)]
        if question.network.sequencer_feed is not None:
            calls.append(ChainCall(question.network.sequencer_feed, _ROUND.selector))
        answers = await question.chain.call_many(calls)
        now_s = question.now_ms // 1000
        if len(answers) > 2:
            _check_sequencer(question.network, answers[2], now_s)
        _check_decimals(feed, answers[1])
        answer, updated_at = _check_round(feed, answers[0], now_s)
        usd = Decimal(answer).scaleb(-feed.decimals)
        age_ms = max(0, question.now_ms - updated_at * 1000)
        return Price(usd, self.name, updated_at * 1000, age_ms, {"feed": feed.address})


def _find_feed(question: PriceQuestion) -> Feed | None:
    for asset in same_worth(question.network, question.asset):
        wanted = None if asset.token is None else asset.token.lower()
        for feed in question.network.feeds:
            if (None if feed.token is None else feed.token.lower()) == wanted:
                return feed
    return None


def _decode(address: str, result: CallResult) -> list[int]:
    if not result.is_success:
        raise PriceFault(f"the feed {address} reverts")
    try:
        return [int(value) for value in _ROUND.decode_result(result.data)]
    except AbiFault:
        raise PriceFault(f"{address} does not answer as a price feed") from None


def _check_decimals(feed: Feed, result: CallResult) -> None:
    found = int.from_bytes(result.data[:32]) if result.is_success and len(result.data) >= 32 else None
    if found is None:
        raise PriceFault(f"the feed {feed.address} does not report its decimals")
    if found != feed.decimals:
        raise PriceFault(f"the feed {feed.address} has {found} decimals, the network file says {feed.decimals}")


def _check_round(feed: Feed, result: CallResult, now_s: int) -> tuple[int, int]:
    number, answer, _, updated_at, answered_in = _decode(feed.address, result)
    if answer <= 0:
        raise PriceFault(f"the feed {feed.address} answers {answer}, which is not a price")
    if updated_at == 0 or answered_in < number:
        raise PriceFault(f"the feed {feed.address} has not answered its round {number}")
    age_s = now_s - updated_at
    if age_s > feed.heartbeat_s:
        raise PriceFault(f"the feed {feed.address} is {age_s} s old, over its heartbeat of {feed.heartbeat_s} s")
    if age_s < -_AHEAD_S:
        raise PriceFault(f"the feed {feed.address} has a time {-age_s} s in the future")
    return answer, updated_at


def _check_sequencer(network: Network, result: CallResult, now_s: int) -> None:
    """Raises `PriceFault` unless the sequencer has been up for an hour, as Chainlink recommends. Answer 0 means up,
    `startedAt` is the time of the last change."""
    assert network.sequencer_feed is not None
    _, is_down, started_at, _, _ = _decode(network.sequencer_feed, result)
    if is_down or started_at == 0:
        raise PriceFault(f"the sequencer of {network.name} is down, so its feeds may be stale")
    if now_s - started_at <= _GRACE_S:
        raise PriceFault(
            f"the sequencer of {network.name} restarted {now_s - started_at} s ago; its feeds are used after an hour"
        )
