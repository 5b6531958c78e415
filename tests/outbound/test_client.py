"""The client against real servers: limits, time, redirects, and what a failure means."""

from __future__ import annotations

import asyncio
import gzip
import resource
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest
from aiohttp import web

from dustrun.errors import DustrunError, Invalid, Permanent, Temporary, Uncertain
from dustrun.outbound.client import OutboundClient
from dustrun.sdk.context import HttpRequest, HttpResponse
from outbound.loopback import FailingResolver, Seen, client, read_head, reset, serving, serving_raw
from testkit.certificates import self_signed


def _ok(_seen: Seen) -> web.Response:
    return web.Response(text="ok")


def _to(where: str, status: int = 302) -> Callable[[Seen], web.Response]:
    return lambda _seen: web.Response(status=status, headers={"Location": where})


async def _failure(http: OutboundClient, method: str, url: str, **options: object) -> DustrunError:
    request = HttpRequest(method, url, **{"timeout_s": 5.0, **options})  # type: ignore[arg-type]
    with pytest.raises(DustrunError) as caught:
        await http.request(request)
    return caught.value


async def test_request_brings_everything_there_and_back() -> None:
    def answer(_seen: Seen) -> web.Response:
        response = web.Response(status=418, body=b"\x00tea")
        response.headers.add("X-Many", "1")
        response.headers.add("X-Many", "2")
        return response

    async with serving(answer) as server, client() as http:
        found = await http.request(
            HttpRequest("put", f"{server.url}/a%2Fb?c=1", {"X-A": "é", "Accept": "*/*"}, b"\xff")
        )
        assert (found.status, found.body, found.url) == (418, b"\x00tea", f"{server.url}/a%2Fb?c=1")
        assert found.headers["x-many"] == "1, 2"
        seen = server.seen[0]
        assert (seen.method, seen.path, seen.body) == ("PUT", "/a%2Fb?c=1", b"\xff")
        assert seen.headers == {
            "host": f"127.0.0.1:{server.port}",
            "x-a": "é",
            "accept": "*/*",
            "user-agent": "dustrun",
            "accept-encoding": seen.headers["accept-encoding"],
            "content-length": "1",
            "connection": "close",
        }


@pytest.mark.parametrize("size", [1, 65_535, 65_536, 1_000_000])
async def test_body_of_any_size_arrives_with_its_length(size: int) -> None:
    body = b"abc" * (size // 3) + b"x" * (size % 3)
    async with serving(lambda seen: web.Response(text=str(len(seen.body)))) as server, client() as http:
        for method in ("POST", "GET"):
            found = await http.request(HttpRequest(method, server.url, {"Content-Type": "a/b"}, body))
            assert (found.body, server.seen[-1].body) == (str(size).encode(), body)
            headers = server.seen[-1].headers
            assert (headers["content-length"], headers["content-type"]) == (str(size), "a/b")
            assert {"transfer-encoding", "content-disposition"}.isdisjoint(headers)


async def test_cookies_are_not_kept() -> None:
    async with serving(lambda _: web.Response(headers={"Set-Cookie": "a=b"})) as server, client() as http:
        for _ in range(2):
            await http.request(HttpRequest("GET", server.url))
        assert ["cookie" in seen.headers for seen in server.seen] == [False, False]


async def test_header_bytes_that_are_no_text_can_be_stored() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nX-Odd: a\xff\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    async with serving_raw(handle) as url, client() as http:
        assert (await http.request(HttpRequest("GET", url))).headers["x-odd"] == "a\ufffd"


async def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(_ok) as proxy, serving(_ok) as server:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        async with client() as http:
            await http.request(HttpRequest("GET", server.url))
        assert (len(proxy.seen), len(server.seen)) == (0, 1)


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("CONNECT", {}),
        ("TRACE", {}),
        ("GET\r\n", {}),
        ("GET", {"Host": "evil"}),
        ("GET", {"content-length": "5"}),
        ("GET", {"Transfer-Encoding": "chunked"}),
        ("GET", {"X": "a\r\nY: b"}),
        ("GET", {"X": "a\0"}),
        ("GET", {"X\r\nY": "b"}),
        ("GET", {"": "b"}),
    ],
)
async def test_request_that_would_be_framed_by_its_caller_is_invalid(method: str, headers: dict[str, str]) -> None:
    async with serving(_ok) as server, client() as http:
        assert isinstance(await _failure(http, method, server.url, headers=headers), Invalid)
        assert server.seen == []


async def test_limit_counts_the_body_and_stops_reading() -> None:
    written = 0

    async def endless(seen: Seen) -> web.StreamResponse:
        nonlocal written
        response = web.StreamResponse()
        await response.prepare(seen.request)
        while True:
            await response.write(b"x" * 10_000)
            written += 10_000

    async with serving(endless) as server, client(max_bytes=50_000) as http:
        error = await _failure(http, "GET", server.url)
        assert isinstance(error, Permanent)
        assert "larger than 50000 bytes" in error.message
    assert written < 20_000_000


@pytest.mark.parametrize(("size", "fits"), [(1000, True), (1001, False)])
async def test_limit_of_one_request_is_exact_and_only_lowers(size: int, fits: bool) -> None:
    async with serving(lambda _: web.Response(body=b"x" * size)) as server, client(max_bytes=1000) as http:
        for max_bytes in (None, 1000, 10_000):
            request = HttpRequest("GET", server.url, max_bytes=max_bytes)
            if fits:
                assert len((await http.request(request)).body) == size
            else:
                with pytest.raises(Permanent):
                    await http.request(request)


async def test_gzip_bomb_is_refused_without_being_unpacked() -> None:
    bomb = gzip.compress(b"\0" * 200_000_000)
    headers = {"Content-Encoding": "gzip"}
    async with serving(lambda _: web.Response(body=bomb, headers=headers)) as server, client() as http:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert isinstance(await _failure(http, "GET", server.url), Permanent)
        grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kib < 50_000


async def test_gzip_is_decoded() -> None:
    body, headers = gzip.compress(b"hello"), {"Content-Encoding": "gzip"}
    async with serving(lambda _: web.Response(body=body, headers=headers)) as server, client() as http:
        assert (await http.request(HttpRequest("GET", server.url))).body == b"hello"


async def test_head_has_a_length_and_no_body() -> None:
    async with serving(lambda _: web.Response(body=b"x" * 1000)) as server, client(max_bytes=10) as http:
        found = await http.request(HttpRequest("HEAD", server.url))
        assert (found.headers["content-length"], found.body) == ("1000", b"")


async def _drip(seen: Seen) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(seen.request)
    while True:
        await response.write(b"x")
        await asyncio.sleep(0.02)


async def _sleep(_seen: Seen) -> web.StreamResponse:
    await asyncio.sleep(600)
    raise AssertionError


@pytest.mark.parametrize("answer", [_drip, _sleep])
async def test_timeout_covers_the_whole_exchange(answer: Callable[[Seen], Awaitable[web.StreamResponse]]) -> None:
    async with serving(answer) as server, client() as http:
        start = time.monotonic()
        async with asyncio.timeout(120):  # the server never ends
            errors = await asyncio.gather(
                *(_failure(http, method, server.url, timeout_s=1) for method in ("GET", "OPTIONS")),
                _failure(http, "POST", server.url, timeout_s=1, safe=True),
                _failure(http, "POST", server.url, timeout_s=1),
                _failure(http, "GET", server.url, timeout_s=1, safe=False),
            )
        assert time.monotonic() - start >= 0.9
        kinds = [type(error) for error in errors]
        assert kinds == [Temporary, Temporary, Temporary, Uncertain, Uncertain]


async def test_timeout_covers_redirects_together() -> None:
    async def slow(seen: Seen) -> web.StreamResponse:
        await asyncio.sleep(0.1)
        return web.Response(status=302, headers={"Location": f"/{len(seen.path)}x{seen.path[1:]}"})

    async with serving(slow) as server, client() as http:
        assert isinstance(await _failure(http, "GET", server.url, timeout_s=0.25, max_redirects=20), Temporary)
        assert len(server.seen) <= 3


async def test_timeout_while_waiting_for_a_turn_is_certainly_not_sent() -> None:
    async with serving(_sleep) as server, client(per_host=1) as http:
        first = asyncio.create_task(_failure(http, "POST", server.url, timeout_s=2))
        async with asyncio.timeout(60):
            while not server.seen:
                await asyncio.sleep(0.01)
        assert isinstance(await _failure(http, "POST", server.url, timeout_s=0.1), Temporary)
        assert isinstance(await first, Uncertain)
        assert len(server.seen) == 1


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_refused_connection_is_temporary(method: str) -> None:
    async with serving(_ok) as server:
        pass
    async with client() as http:
        error = await _failure(http, method, server.url)
        assert isinstance(error, Temporary)
        assert error.message == f'{method} to "127.0.0.1": no connection could be made (Connection refused).'


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_unknown_name_is_temporary(method: str) -> None:
    async with client(resolver=FailingResolver()) as http:
        error = await _failure(http, method, "http://nowhere.example/")
        assert (type(error), error.message) == (
            Temporary,
            f'{method} to "nowhere.example": the name cannot be resolved.',
        )


class _HangingResolver:
    async def resolve(self, host: str) -> Sequence[str]:
        await asyncio.sleep(30)
        raise AssertionError


async def test_timeout_covers_the_look_up_of_the_name() -> None:
    async with client(resolver=_HangingResolver()) as http:
        assert isinstance(await _failure(http, "POST", "http://slow.example/", timeout_s=0.1), Temporary)


async def test_certificate_that_nobody_vouches_for_is_permanent(tmp_path: Path) -> None:
    served, _ = self_signed(tmp_path, "x.example.com")
    async with serving(_ok, tls=served) as server, client() as http:
        error = await _failure(http, "POST", server.url.replace("http", "https"))
        assert isinstance(error, Permanent)
        assert error.message.startswith('The certificate of "127.0.0.1" is not valid')
        assert server.seen == []


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_failed_handshake_is_temporary(method: str) -> None:
    async with serving(_ok) as server, client() as http:
        assert isinstance(await _failure(http, method, server.url.replace("http", "https")), Temporary)


async def _reset_at_once(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    reset(writer)


async def _reset_after_the_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_head(reader)
    reset(writer)


async def _close_after_the_request(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await read_head(reader)


async def _break_off_in_the_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_head(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
    await writer.drain()


async def _answer_nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_head(reader)
    writer.write(b"hello\r\n\r\n")
    await writer.drain()


async def _answer_bad_gzip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_head(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\n12345")
    await writer.drain()


@pytest.mark.parametrize(
    "handle",
    [
        _reset_at_once,
        _reset_after_the_request,
        _close_after_the_request,
        _break_off_in_the_body,
        _answer_nonsense,
        _answer_bad_gzip,
    ],
)
async def test_broken_exchange_is_temporary_for_a_read_and_uncertain_for_a_write(
    handle: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> None:
    connections = 0

    async def counted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await handle(reader, writer)

    async with serving_raw(counted) as url, client() as http:
        kinds = [type(await _failure(http, method, url)) for method in ("GET", "POST", "PUT", "DELETE")]
        assert kinds == [Temporary, Uncertain, Uncertain, Uncertain]
    assert connections == 4  # nothing was sent a second time


async def test_requests_to_one_host_at_once_are_limited() -> None:
    inside = most = 0

    async def count(_seen: Seen) -> web.StreamResponse:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0.02)
        inside -= 1
        return web.Response()

    async with serving(count) as server, client(per_host=3) as http:
        methods = ["GET", "POST"] * 6
        await asyncio.gather(*(http.request(HttpRequest(method, server.url)) for method in methods))
    assert most == 3


async def test_redirects_are_followed_up_to_their_number() -> None:
    def answer(seen: Seen) -> web.Response:
        left = int(seen.path[1:])
        return web.Response(status=302, headers={"Location": f"/{left - 1}"}) if left else web.Response(text="end")

    async with serving(answer) as server, client() as http:
        found = await http.request(HttpRequest("GET", f"{server.url}/3", max_redirects=3))
        assert (found.status, found.url, found.body) == (200, f"{server.url}/0", b"end")
        error = await _failure(http, "GET", f"{server.url}/4", max_redirects=3)
        assert isinstance(error, Permanent)
        assert "more than 3 times" in error.message
        answered = await http.request(HttpRequest("GET", f"{server.url}/4", max_redirects=0))
        assert (answered.status, answered.headers["location"]) == (302, "/3")


async def test_post_answered_303_reads_the_result() -> None:
    def answer(seen: Seen) -> web.Response:
        return _to("/done", 303)(seen) if seen.path == "/" else web.Response(text="done")

    async with serving(answer) as server, client() as http:
        await http.request(HttpRequest("POST", server.url, {"Content-Type": "text/plain"}, b"x"))
        assert [(seen.method, seen.path, seen.body) for seen in server.seen] == [
            ("POST", "/", b"x"),
            ("GET", "/done", b""),
        ]


@pytest.mark.parametrize(("status", "kind"), [(303, Uncertain), (302, Uncertain), (307, Temporary)])
async def test_write_whose_redirect_leads_nowhere(status: int, kind: type[DustrunError]) -> None:
    """303 says that it was done and 307 that it was not; only then may it be sent again."""
    async with serving(_ok) as gone:
        pass
    async with serving(_to(gone.url, status)) as server, client() as http:
        assert type(await _failure(http, "POST", server.url)) is kind


@pytest.mark.parametrize(("status", "kind"), [(302, Uncertain), (303, Uncertain), (308, Temporary)])
async def test_write_that_was_taken_stays_taken(status: int, kind: type[DustrunError]) -> None:
    """What reads its result may be sent on by a 307, which is none of the write."""
    async with serving(_ok) as gone:
        pass

    def answer(seen: Seen) -> web.Response:
        return _to("/result", status)(seen) if seen.path == "/" else _to(gone.url, 307)(seen)

    async with serving(answer) as server, client() as http:
        assert type(await _failure(http, "POST", server.url)) is kind
        assert type(await _failure(http, "POST", server.url, safe=True)) is Temporary


@pytest.mark.parametrize(("status", "kind"), [(302, Uncertain), (303, Uncertain), (307, Permanent)])
async def test_write_that_is_redirected_too_often(status: int, kind: type[DustrunError]) -> None:
    async with serving(_to("/", status)) as server, client() as http:
        error = await _failure(http, "POST", server.url, max_redirects=3)
        assert (type(error), "more than 3 times" in error.message) == (kind, True)


async def test_answer_says_whether_it_is_that_of_the_write() -> None:
    def answer(seen: Seen) -> web.Response:
        return _to("/end", int(seen.path[1:]))(seen) if seen.path != "/end" else web.Response(status=503)

    async with serving(answer) as server, client() as http:
        for method, status, expected in (
            ("POST", 303, True), ("DELETE", 303, True), ("POST", 301, True), ("POST", 307, False), ("GET", 303, False),
        ):  # fmt: skip
            found = await http.request(HttpRequest(method, f"{server.url}/{status}"))
            assert (found.status, found.was_taken) == (503, expected), (method, status)


async def test_redirect_to_another_origin_drops_credentials() -> None:
    async with serving(_ok) as other, serving(_to(f"http://localhost:{other.port}/")) as server:
        async with client() as http:
            headers = {"Authorization": "Bearer x", "Cookie": "a=b", "X-Api-Key": "k", "Accept": "a/b"}
            await http.request(HttpRequest("GET", server.url, headers))
        names = ("authorization", "cookie", "x-api-key", "accept")
        assert [[name in seen.headers for name in names] for seen in (*server.seen, *other.seen)] == [
            [True, True, True, True],
            [False, False, False, True],
        ]


async def test_answer_before_the_body_was_taken_is_an_answer() -> None:
    is_answered = asyncio.Event()

    async def answer_early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Never takes the body."""
        await read_head(reader)
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        await writer.drain()
        await is_answered.wait()

    async with serving_raw(answer_early) as url, client() as http:
        async with asyncio.timeout(60):
            found = await http.request(HttpRequest("POST", url, body=b"x" * 5_242_880, timeout_s=120))
        is_answered.set()
        assert (found.status, found.body) == (413, b"no")


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirect_to_a_forbidden_address_is_not_followed(method: str, status: int) -> None:
    async with serving(_ok, "127.0.0.2") as private, serving(_to(private.url, status)) as server, client() as http:
        error = await _failure(http, method, server.url)
        assert type(error) is (Uncertain if method == "POST" and status < 307 else Invalid)
        assert '"127.0.0.2"' in error.message
        assert "DUSTRUN_OUTBOUND_ALLOW" in error.message
        assert private.seen == []


@pytest.mark.parametrize(
    "where", ["http://127.2:{}/", "http://2130706434:{}/", "//x@127.0.0.2:{}/", "file:///etc/passwd"]
)
async def test_redirect_to_a_disguised_address_is_not_followed(where: str) -> None:
    async with serving(_ok, "127.0.0.2") as private, serving(_to(where.format(private.port))) as server:
        async with client() as http:
            assert isinstance(await _failure(http, "GET", server.url), Invalid)
            assert isinstance(await _failure(http, "POST", server.url), Uncertain)
        assert private.seen == []


async def _get(http: OutboundClient, url: str) -> HttpResponse:
    return await http.request(HttpRequest("GET", url))


async def test_concurrent_reads_reuse_connections() -> None:
    peers: set[object] = set()

    def answer(seen: Seen) -> web.Response:
        assert seen.request.transport is not None
        peers.add(seen.request.transport.get_extra_info("peername"))
        return web.Response()

    async with serving(answer) as server, client() as http:
        for _ in range(5):
            await _get(http, server.url)
        assert len(peers) == 1
        for _ in range(5):
            await http.request(HttpRequest("POST", server.url))
        assert len(peers) == 6


async def test_client_that_is_not_started_says_so() -> None:
    http = OutboundClient((), 1000, 1)
    with pytest.raises(RuntimeError, match="not started"):
        await _get(http, "http://8.8.8.8/")
