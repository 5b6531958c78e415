"""The endpoints of one chain: selection, back-off, and a check of their reported heights.

Reads go to the first usable endpoint and fall back to the next when an exchange fails. A transaction is sent once:
another endpoint is tried only if it certainly did not arrive.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import field
from typing import Any, Final, TypeVar

from dustrun import clock
from dustrun.chain.failures import may_pass
from dustrun.chain.rpc import MAX_BATCH, EndpointDown, Rpc, RpcError, RpcRequest
from dustrun.core.evm.network import Network
from dustrun.errors import Code, Permanent, Temporary
from dustrun.records import dataclass

# Coalesces JSON-RPC reads of one event-loop tick into a batch, at a tenth of the cost per read.


_KEPT: Final[set[asyncio.Task[None]]] = set()  # the loop holds tasks only weakly
Alone = Callable[[RpcRequest], Awaitable[Any]]
All = Callable[[Sequence[RpcRequest]], Awaitable[list[Any]]]
_Asked = tuple[RpcRequest, "asyncio.Future[Any]"]


class RequestBatcher:
    """Collects requests until the next loop tick. What the batch could not settle (an unknown block, a missing
    method) is sent again alone, where other endpoints are tried.
    """

    def __init__(self, alone: Alone, all: All) -> None:
        self._alone = alone
        self._all = all
        self._waiting: list[_Asked] = []

    async def call(self, request: RpcRequest) -> Any:
        """The result of one request; raises `RpcError` or `Temporary` as if it was sent alone."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._waiting.append((request, future))
        if len(self._waiting) == 1:
            loop.call_soon(self._send)
        return await future

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, []
        for start in range(0, len(waiting), MAX_BATCH):
            task = asyncio.get_running_loop().create_task(self._settle(waiting[start : start + MAX_BATCH]))
            _KEPT.add(task)
            task.add_done_callback(_KEPT.discard)

    async def _settle(self, asked: Sequence[_Asked]) -> None:
        if len(asked) > 1:
            asked = await self._settle_at_once(asked)
        await asyncio.gather(*(self._ask_alone(request, future) for request, future in asked))

    async def _settle_at_once(self, asked: Sequence[_Asked]) -> Sequence[_Asked]:
        """Sends all in one batch; returns those that must be sent alone."""
        try:
            answers = await self._all([request for request, _ in asked])
        except Exception as error:
            answers = [error] * len(asked)
        left = []
        for pair, answer in zip(asked, answers, strict=True):
            if isinstance(answer, RpcError) and may_pass(answer):
                left.append(pair)
            else:
                _tell(pair[1], answer)
        return left

    async def _ask_alone(self, request: RpcRequest, future: asyncio.Future[Any]) -> None:
        try:
            _tell(future, await self._alone(request))
        except Exception as error:
            _tell(future, error)


def _tell(future: asyncio.Future[Any], answer: Any) -> None:
    if future.done():  # the caller was cancelled
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)


T = TypeVar("T")
_FIRST_PAUSE_S: Final = 0.25
_LONGEST_PAUSE_S: Final = 30.0
_ROUNDS: Final = 3  # rounds over all endpoints before a read gives up
_MAX_WAIT_S: Final = 2.0  # seconds that a read waits for a resting endpoint
_AGREE_EVERY_S: Final = 10.0
_HEIGHT_WITHIN_S: Final = 2.0  # seconds; reads wait for the heights
_STALE_S: Final = 60
_KNOWN_S: Final = 2.0  # seconds for which a verified chain id is trusted


@dataclass(slots=True)
class Endpoint:
    """One endpoint and its state. `chain_id` and `genesis` are None while unknown; `height` is its newest block when
    last asked, `head_time` that block's time in seconds; `probe.py` sets `abilities`.
    """

    rpc: Rpc
    failures: int = 0
    rest_until_s: float = 0.0
    reason: str | None = None
    chain_id: int | None = None
    genesis: str | None = None
    identified_at_s: float = -1e9
    height: int | None = None
    head_time: int = 0
    outlier: str | None = None
    abilities: Any = None
    abilities_at_s: float = 0.0

    @property
    def host(self) -> str:
        """Host and port, which may be displayed; the URL may contain a secret."""
        return self.rpc.host

    @property
    def is_resting(self) -> bool:
        """Whether it is backing off."""
        return clock.monotonic_s() < self.rest_until_s

    def worked(self) -> None:
        """Records a successful exchange, which ends the back-off. While the endpoint rests it says nothing: what was
        asked before the failure may be answered after it."""
        if not self.is_resting:
            self.failures, self.rest_until_s, self.reason = 0, 0.0, None

    def failed(self, down: EndpointDown) -> None:
        """Records a failed exchange: backs off exponentially, then verifies the chain id again. Several that fail at
        the same time count as one."""
        self.failures += not self.is_resting
        self.chain_id = self.genesis = None
        self.reason = down.reason
        pause_s = min(_FIRST_PAUSE_S * 2 ** (self.failures - 1), _LONGEST_PAUSE_S)
        self.rest_until_s = max(self.rest_until_s, clock.monotonic_s() + (down.wait_s or pause_s))

    def public(self) -> dict[str, Any]:
        """Its health as JSON, without its URL."""
        return {
            "host": self.host,
            "isUsable": not self.is_resting and self.outlier is None,
            "problem": self.reason or self.outlier,
            "height": self.height,
        }


class NotThisChain(Permanent):
    """An endpoint serves a chain other than the configured one."""

    default_code = Code.CHAIN_MISMATCH


@dataclass(slots=True)
class Endpoints:
    """All endpoints of a network, in order of preference."""

    network: Network
    all: list[Endpoint]
    _agreed_at_s: float = field(default=-1e9)
    _agreeing: asyncio.Lock = field(default_factory=asyncio.Lock)
    _genesis: str | None = field(default=None)
    _batching: RequestBatcher = field(init=False)

    def __post_init__(self) -> None:
        """Sets up the coalescing of concurrent reads."""
        self._batching = RequestBatcher(self._alone, self._all)

    async def call(self, method: str, *params: Any, timeout_s: float | None = None) -> Any:
        """The result of a read; raises `RpcError`, or `Temporary` when no endpoint answers."""
        if timeout_s is None:
            return await self._batching.call(RpcRequest(method, params))
        return await self._alone(RpcRequest(method, params), timeout_s)

    async def _alone(self, request: RpcRequest, timeout_s: float | None = None) -> Any:
        return await self.read(lambda rpc: rpc.call(request, timeout_s), request.method)

    async def _all(self, requests: Sequence[RpcRequest]) -> list[Any]:
        return await self.read(lambda rpc: rpc.batch(requests), "batch")

    async def batch(self, requests: Sequence[RpcRequest], timeout_s: float | None = None) -> list[Any]:
        """The results of many reads from one endpoint; a failed one is an `RpcError`."""
        if len(requests) == 1:
            return [await self._one(requests[0], timeout_s)]
        return await self.read(lambda rpc: rpc.batch(requests, timeout_s), "batch")

    async def _one(self, request: RpcRequest, timeout_s: float | None) -> Any:
        try:
            return await self.call(request.method, *request.params, timeout_s=timeout_s)
        except RpcError as error:
            return error

    async def read(self, ask: Callable[[Rpc], Awaitable[T]], what: str, among: Sequence[Endpoint] | None = None) -> T:
        """The first usable answer. An answer that another endpoint may know better (an unknown block, a missing method)
        counts only if none does.
        """
        said: RpcError | None = None
        for turn in range(_ROUNDS):
            for endpoint in await self._usable(among):
                try:
                    answer = await ask(endpoint.rpc)
                except EndpointDown as down:
                    endpoint.failed(down)
                except RpcError as error:
                    endpoint.worked()
                    if not may_pass(error):
                        raise
                    said = error
                else:
                    endpoint.worked()
                    return answer
            if said is not None:
                raise said
            if turn + 1 < _ROUNDS and not await self._wait(among):
                break
        raise self._unreachable(what, among)

    async def _usable(self, among: Sequence[Endpoint] | None) -> list[Endpoint]:
        if among is None:
            await self.agree()
            among = self.all
        usable = [endpoint for endpoint in among if not endpoint.is_resting]
        return [endpoint for endpoint in usable if endpoint.outlier is None] or usable

    async def _wait(self, among: Sequence[Endpoint] | None) -> bool:
        """Waits until one of them may be asked again; False if that takes too long."""
        soonest_s = min(endpoint.rest_until_s for endpoint in (self.all if among is None else among))
        wait_s = max(0.0, soonest_s - clock.monotonic_s())
        if wait_s > _MAX_WAIT_S:
            return False
        await asyncio.sleep(wait_s)
        return True

    def _unreachable(self, what: str, among: Sequence[Endpoint] | None = None) -> Temporary:
        reasons = "; ".join(f"{e.host}: {e.reason or e.outlier}" for e in (self.all if among is None else among))
        return Temporary(
            f"No endpoint of {self.network.name} answers {what} ({reasons}).",
            code=Code.CHAIN_UNREACHABLE,
            retry_after_s=_MAX_WAIT_S,
        )

    async def send(self, method: str, *params: Any) -> Any:
        """Sends a request that changes state: another endpoint is tried only if it certainly did not arrive. Raises
        `RpcError`, or `EndpointDown` with `sent` True when the outcome is unknown.
        """
        for endpoint in await self._usable(None):
            try:
                answer = await endpoint.rpc.call(RpcRequest(method, params))
            except EndpointDown as down:
                endpoint.failed(down)
                if down.sent:
                    raise
            except RpcError:
                endpoint.worked()
                raise
            else:
                endpoint.worked()
                return answer
        raise EndpointDown(self._unreachable(method).message, sent=False)

    async def agree(self) -> None:
        """Asks all endpoints for their newest block every few seconds, and excludes outliers while others are usable.
        With one endpoint there is nothing to compare.
        """
        if len(self.all) < 2 or clock.monotonic_s() - self._agreed_at_s < _AGREE_EVERY_S:
            return
        async with self._agreeing:
            if clock.monotonic_s() - self._agreed_at_s < _AGREE_EVERY_S:
                return
            await asyncio.gather(*(_ask_height(endpoint, self.network) for endpoint in self.all))
            mark_outliers(self.all, self.network.block_time_ms)
            self._agreed_at_s = clock.monotonic_s()

    async def verify(self, *, afresh: bool = False) -> None:
        """Checks that the endpoints serve this network: chain id and genesis block (the network's, or the first one
        seen). Repeated every few seconds, since a node can be swapped behind its URL, and at once with `afresh`; raises
        `NotThisChain` for a mismatch, `Temporary` when none answers.
        """
        since_s = clock.monotonic_s() - (0.0 if afresh else _KNOWN_S)
        waiting = [one for one in self.all if one.chain_id is None or one.identified_at_s < since_s]
        if any(endpoint.chain_id is not None for endpoint in self.all):  # do not wait for endpoints that are down
            waiting = [endpoint for endpoint in waiting if not endpoint.is_resting]
        await asyncio.gather(*map(_ask_identity, waiting))
        if not any(endpoint.chain_id is not None for endpoint in self.all):
            raise self._unreachable("eth_chainId")
        for endpoint in self.all:
            _check_identity(endpoint, self.network, self._genesis)
            self._genesis = self._genesis or endpoint.genesis


def mark_outliers(endpoints: Sequence[Endpoint], block_time_ms: int) -> None:
    """Marks endpoints whose height differs from the median by more than 5 seconds' worth of blocks.

    The lower median counts: with two endpoints the lower height, so that confirmations may come late but never early.
    An endpoint that stalls for a minute while another advances is excluded before that.
    """
    known = [endpoint for endpoint in endpoints if endpoint.height is not None]
    for endpoint in endpoints:
        endpoint.outlier = None
    if not known:
        return
    stale_s = max(_STALE_S, 20 * block_time_ms // 1000)
    latest_s = clock.now_ms() // 1000 + stale_s
    # A head far in the future is wrong, unless all agree (a development chain with a shifted clock).
    sane = [endpoint for endpoint in known if endpoint.head_time <= latest_s] or known
    newest = max(endpoint.head_time for endpoint in sane)
    sane = [endpoint for endpoint in sane if newest - endpoint.head_time <= stale_s]
    heights = sorted(endpoint.height or 0 for endpoint in sane)
    median, tolerance = heights[(len(heights) - 1) // 2], max(2, 5000 // block_time_ms)
    for endpoint in known:
        height = endpoint.height or 0
        if endpoint not in sane or abs(height - median) > tolerance:
            side = "behind" if height < median else "ahead of"
            endpoint.outlier = f"its height {height} is {side} the others' {median}"


async def _ask_height(endpoint: Endpoint, network: Network) -> None:
    if endpoint.is_resting:
        return
    try:
        block = await endpoint.rpc.call(RpcRequest("eth_getBlockByNumber", ("latest", False)), _HEIGHT_WITHIN_S)
        endpoint.height, endpoint.head_time = int(block["number"], 16), int(block["timestamp"], 16)
    except EndpointDown as down:
        endpoint.failed(down)
    except (RpcError, TypeError, KeyError, ValueError):
        endpoint.failed(EndpointDown("it does not report its newest block", sent=True))


_WHO: Final = (RpcRequest("eth_chainId"), RpcRequest("eth_getBlockByNumber", ("0x0", False)))


async def _ask_identity(endpoint: Endpoint) -> None:
    """Asks for both in one exchange: each watched chain does so every few seconds. A pruned node has no block 0."""
    try:
        chain_id, first = await endpoint.rpc.batch(_WHO)
        if isinstance(chain_id, RpcError):
            raise chain_id
        endpoint.genesis = str(first["hash"]) if isinstance(first, dict) else None
        endpoint.chain_id = int(chain_id, 16)
        endpoint.identified_at_s = clock.monotonic_s()
    except EndpointDown as down:
        endpoint.failed(down)
    except (RpcError, TypeError, KeyError, ValueError):
        endpoint.failed(EndpointDown("it does not report its chain id", sent=True))


def _check_identity(endpoint: Endpoint, network: Network, seen: str | None) -> None:
    if endpoint.chain_id is not None and endpoint.chain_id != network.chain_id:
        raise NotThisChain(
            f"The endpoint {endpoint.host} of {network.name} serves chain {endpoint.chain_id} instead of "
            f"{network.chain_id}: nothing is signed until its URL is corrected."
        )
    if endpoint.genesis is not None and network.genesis_hash not in (None, endpoint.genesis):
        raise NotThisChain(
            f"The endpoint {endpoint.host} of {network.name} has genesis block {endpoint.genesis} instead of "
            f"{network.genesis_hash}: it serves another chain with the same id. Nothing is signed."
        )
    if network.genesis_hash is None and endpoint.genesis is not None and seen not in (None, endpoint.genesis):
        raise NotThisChain(
            f"The endpoint {endpoint.host} of {network.name} has genesis block {endpoint.genesis}, but {seen} was "
            "seen before: it serves another chain with the same id. Nothing is signed until that one is back, or the "
            "server is restarted."
        )
