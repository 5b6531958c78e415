"""What a trigger may use when it is checked or polled."""

from __future__ import annotations

from dustrun import clock
from dustrun.chain.chains import Chains
from dustrun.sdk.chain import Chain, Prices
from dustrun.sdk.context import CheckingHttp


class LiveContext:
    """The `TriggerContext` of the server."""

    def __init__(self, http: CheckingHttp, chains: Chains, prices: Prices, min_interval_ms: int) -> None:
        self._http = http
        self._chains = chains
        self._prices = prices
        self._min_interval_ms = min_interval_ms

    @property
    def now_ms(self) -> int:
        """The current time."""
        return clock.now_ms()

    @property
    def http(self) -> CheckingHttp:
        """The guarded HTTP client; its `check` says what it would refuse."""
        return self._http

    @property
    def prices(self) -> Prices:
        """Token prices in US dollars."""
        return self._prices

    @property
    def min_interval_ms(self) -> int:
        """The shortest time between two fires or polls that the operator allows."""
        return self._min_interval_ms

    def chain(self, chain_id: int) -> Chain:
        """Read access to one chain; raises `Invalid` for one that the server does not know or serve."""
        return self._chains.get(chain_id)
