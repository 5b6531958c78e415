"""One JSON-RPC endpoint over HTTP: requests, batches, limits, errors.

An `error` answer of the node is an `RpcError`; a failed exchange is an `EndpointDown`. URLs may contain secrets, so
neither names more than the endpoint's host.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from dustrun import clock
from dustrun.core.values.exact_json import JsonError, dumps, loads_own
from dustrun.errors import Invalid
from dustrun.records import dataclass
from dustrun.sdk.threads import run_sized

if TYPE_CHECKING:
    import aiohttp

MAX_BATCH: Final = 100
_HEADERS: Final = {"content-type": "application/json"}
_CHUNK: Final = 65_536
_RATE_LIMITED: Final = frozenset({429, -32005, -32097})  # -32005 by EIP-1474
_ALONE_S: Final = 60.0  # seconds until an endpoint that rejected a batch is offered one again


@dataclass(frozen=True, slots=True)
class RpcRequest:
    """A JSON-RPC method with its parameters."""

    method: str
    params: tuple[Any, ...] = ()


class RpcError(Exception):
    """The node answered with an error. `data` is the revert data if the node sent it."""

    def __init__(self, code: int, message: str, data: bytes | None = None) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code
        self.message = message
        self.data = data


class EndpointDown(Exception):
    """The exchange failed. `sent`: the request may have arrived; `wait_s`: the back-off that the endpoint asks for."""

    def __init__(self, reason: str, *, sent: bool, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.sent = sent
        self.wait_s = wait_s


class _Rejected(EndpointDown):
    """The endpoint answered the whole request with a client error or one JSON-RPC error."""


class Pace:
    """Rate limit: `per_second` requests with an equal burst; 0 is unlimited."""

    def __init__(self, per_second: int) -> None:
        self._per_second = per_second
        self._left = float(per_second)
        self._at_s = clock.monotonic_s()

    async def take(self, requests: int) -> None:
        """Waits until this many requests may be sent; first come, first served."""
        if self._per_second == 0:
            return
        now_s = clock.monotonic_s()
        self._left = min(self._per_second, self._left + (now_s - self._at_s) * self._per_second)
        self._at_s = now_s
        self._left -= requests
        if self._left < 0:
            await asyncio.sleep(-self._left / self._per_second)


def host_of(url: str) -> str:
    """Host and port of an endpoint's URL, which may be displayed."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.hostname}{port}"


Exchange = Callable[[str, Any, float], Awaitable[Any]]
"""Sends a document to a host within some seconds; returns its answer, or raises `EndpointDown`."""
_exchange_by: Exchange | None = None


@contextlib.contextmanager
def exchanged_by(exchange: Exchange) -> Iterator[None]:
    """Context manager: `exchange` sends instead of the HTTP client. For simulations."""
    global _exchange_by
    before, _exchange_by = _exchange_by, exchange
    try:
        yield
    finally:
        _exchange_by = before


class Rpc:
    """Exchanges with one endpoint. `refusal` says why it may not be connected to, `timeout_s` limits one exchange,
    `max_bytes` its decoded answer."""

    def __init__(
        self,
        url: str,
        session: aiohttp.ClientSession,
        refusal: str | None = None,
        *,
        per_second: int,
        timeout_s: float,
        max_bytes: int,
    ) -> None:
        self.host = host_of(url)
        self._url = url
        self._session = session
        self._refusal = refusal
        self._pace = Pace(per_second)
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._alone_until_s = 0.0

    async def call(self, request: RpcRequest, timeout_s: float | None = None) -> Any:
        """The result of one request; raises `RpcError` or `EndpointDown`."""
        document = {"jsonrpc": "2.0", "id": 1, "method": request.method, "params": request.params}
        answer = await self._exchange(document, 1, timeout_s)
        if not isinstance(answer, dict):
            raise EndpointDown("its answer is not a JSON-RPC response", sent=True)
        return _result(answer)

    async def batch(self, requests: Sequence[RpcRequest], timeout_s: float | None = None) -> list[Any]:
        """The results of many requests in few exchanges; a rejected one is an `RpcError`. An endpoint that rejects
        batches is asked one by one. Raises `EndpointDown` when an exchange fails.
        """
        if len(requests) == 1:
            return [await self._result_or_error(requests[0], timeout_s)]
        found: list[Any] = []
        for start in range(0, len(requests), MAX_BATCH):
            found += await self._batch(requests[start : start + MAX_BATCH], timeout_s)
        return found

    async def _batch(self, requests: Sequence[RpcRequest], timeout_s: float | None) -> list[Any]:
        if clock.monotonic_s() < self._alone_until_s:
            return await self._one_by_one(requests, timeout_s)
        try:
            return await self._at_once(requests, timeout_s)
        except _Rejected:
            first = await self._result_or_error(requests[0], timeout_s)  # fails if it is no matter of batches
        self._alone_until_s = clock.monotonic_s() + _ALONE_S
        return [first, *await self._one_by_one(requests[1:], timeout_s)]

    async def _at_once(self, requests: Sequence[RpcRequest], timeout_s: float | None) -> list[Any]:
        documents = [
            {"jsonrpc": "2.0", "id": place, "method": request.method, "params": request.params}
            for place, request in enumerate(requests)
        ]
        answers = await self._exchange(documents, len(requests), timeout_s)
        _check_accepted(answers, len(requests))
        if not isinstance(answers, list) or len(answers) != len(requests):
            raise EndpointDown("its answer does not match the batch", sent=True)
        return _in_order(answers, len(requests))

    async def _one_by_one(self, requests: Sequence[RpcRequest], timeout_s: float | None) -> list[Any]:
        return await asyncio.gather(*(self._result_or_error(request, timeout_s) for request in requests))

    async def _result_or_error(self, request: RpcRequest, timeout_s: float | None) -> Any:
        try:
            return await self.call(request, timeout_s)
        except RpcError as error:
            return error

    async def _exchange(self, document: Any, requests: int, timeout_s: float | None) -> Any:
        if self._refusal is not None:
            raise EndpointDown(self._refusal, sent=False)
        import aiohttp  # slow import: only a server with endpoints needs it

        await self._pace.take(requests)
        limit_s = min(timeout_s or self._timeout_s, self._timeout_s)
        if _exchange_by is not None:
            return await _exchange_by(self.host, document, limit_s)
        try:
            async with asyncio.timeout(limit_s):
                async with self._session.post(
                    self._url, data=dumps(document), headers=_HEADERS, allow_redirects=False
                ) as response:
                    body = await self._body(response)
                    return await run_sized(body, _read, response, body)
        except TimeoutError:
            raise EndpointDown(f"no answer within {limit_s:g} s", sent=True) from None
        except Invalid as refused:  # the guard, when the name was resolved
            raise EndpointDown(refused.message, sent=False) from None
        except aiohttp.ClientConnectorError:
            raise EndpointDown("no connection", sent=False) from None
        except (aiohttp.ClientError, OSError) as error:
            raise EndpointDown(f"the connection broke ({type(error).__name__})", sent=True) from None

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        async for chunk in response.content.iter_chunked(_CHUNK):
            body += chunk
            if len(body) > self._max_bytes:
                raise EndpointDown(f"its answer is larger than {self._max_bytes} bytes", sent=True)
        return bytes(body)


def _read(response: aiohttp.ClientResponse, body: bytes) -> Any:
    """Nodes return errors with HTTP 200, 400 or 500: a valid body counts more than the status."""
    if response.status == 429:
        raise EndpointDown("rate limit reached", sent=False, wait_s=_wait_s(response))
    try:
        answer = loads_own(body)
    except JsonError as error:
        if response.status != 200:
            raise _failed(response.status) from None
        raise EndpointDown(f"its answer is not JSON: {error}", sent=True) from None
    if response.status != 200 and not _is_response(answer):
        raise _failed(response.status)
    return answer


def _failed(status: int) -> EndpointDown:
    kind = _Rejected if 400 <= status < 500 else EndpointDown
    return kind(f"HTTP status {status}", sent=True)


def _wait_s(response: aiohttp.ClientResponse) -> float | None:
    text = response.headers.get("retry-after", "")
    return min(float(text), 60.0) if text.isascii() and text.isdecimal() else None


def _is_response(answer: Any) -> bool:
    first = answer[0] if isinstance(answer, list) and answer else answer
    return isinstance(first, dict) and ("result" in first or isinstance(first.get("error"), dict))


def _result(answer: dict[str, Any]) -> Any:
    error = answer.get("error")
    if error is not None:
        raise _error_of(error)
    if "result" not in answer:
        raise EndpointDown("its answer has neither result nor error", sent=True)
    return answer["result"]


def _error_of(error: Any) -> RpcError | EndpointDown:
    if not isinstance(error, dict):
        return EndpointDown("its answer has a malformed error", sent=True)
    code, message = error.get("code"), str(error.get("message") or "error without a message")[:500]
    if not isinstance(code, int):
        return EndpointDown("its answer has an error without a code", sent=True)
    if code in _RATE_LIMITED:
        return EndpointDown("rate limit reached", sent=False)
    return RpcError(code, message, _data_of(error.get("data"), message))


def _data_of(data: Any, message: str) -> bytes | None:
    """The revert data: hex (geth, anvil, Nethermind), hex after `Reverted ` (Nethermind), or an object with it."""
    if isinstance(data, dict):
        data = data.get("data") or data.get("result")
    if not isinstance(data, str):
        return None
    text = data.removeprefix("Reverted ").strip()
    try:
        return bytes.fromhex(text.removeprefix("0x")) if text.startswith("0x") else None
    except ValueError:
        return None


def _check_accepted(answers: Any, count: int) -> None:
    """Raises if one error answers a whole batch: an object, or a list of just that, by JSON-RPC 2.0 section 6."""
    answer = answers[0] if isinstance(answers, list) and len(answers) == 1 < count else answers
    if not isinstance(answer, dict):
        return
    try:
        _result(answer)
    except RpcError as error:
        raise _Rejected(f"it rejects batches: {error}", sent=True) from None


def _in_order(answers: list[Any], count: int) -> list[Any]:
    found: list[Any] = [None] * count
    seen = set()
    for answer in answers:
        place = answer.get("id") if isinstance(answer, dict) else None
        if not isinstance(place, int) or not 0 <= place < count or place in seen:
            raise EndpointDown("its answers do not match the requests of the batch", sent=True)
        seen.add(place)
        try:
            found[place] = _result(answer)
        except RpcError as error:
            found[place] = error
    return found
