"""What is asked after a redirect."""

from __future__ import annotations

import pytest

from dustrun.errors import Invalid
from dustrun.outbound.redirect import Hop, follow, location
from dustrun.outbound.resolver import parse


def _hop(method: str, headers: dict[str, str] | None = None, url: str = "https://example.com/a/b?c") -> Hop:
    return Hop(method, parse(url), headers or {}, None if method in ("GET", "HEAD") else b"body")


@pytest.mark.parametrize(
    ("method", "status", "expected"),
    [
        ("GET", 301, ("GET", None)),
        ("HEAD", 303, ("HEAD", None)),
        ("POST", 301, ("GET", None)),
        ("POST", 302, ("GET", None)),
        ("POST", 303, ("GET", None)),
        ("PUT", 303, ("GET", None)),
        ("PUT", 302, ("PUT", b"body")),
        ("POST", 307, ("POST", b"body")),
        ("POST", 308, ("POST", b"body")),
    ],
)
def test_follow_keeps_or_drops_method_and_body(method: str, status: int, expected: tuple[str, bytes | None]) -> None:
    following = follow(_hop(method), status, "/x")
    assert (following.method, following.body) == expected


def test_follow_drops_what_described_the_body() -> None:
    following = follow(_hop("POST", {"Content-Type": "text/plain", "Accept": "*/*"}), 303, "/x")
    assert following.headers == {"Accept": "*/*"}


_SENT = {
    "authorization": "Bearer x",
    "Cookie": "x",
    "Proxy-Authorization": "x",
    "X-Api-Key": "x",
    "X-Access-Token": "x",
    "OK-ACCESS-PASSPHRASE": "x",
    "OK-ACCESS-SIGN": "x",
    "X-Session-Id": "x",
    "X-Passwd": "x",
    "X-Amz-Credential": "x",
    "X-Jwt": "x",
    "Accept": "x",
    "Idempotency-Key": "x",
}


@pytest.mark.parametrize(
    "where", ["https://evil.com/", "http://example.com/", "https://example.com:444/", "//evil.com"]
)
def test_follow_to_another_origin_leaves_credentials_behind(where: str) -> None:
    assert follow(_hop("GET", _SENT), 302, where).headers == {"Accept": "x", "Idempotency-Key": "x"}


@pytest.mark.parametrize("where", ["/x", "c", "?q", "https://example.com/", "https://EXAMPLE.com.:443/"])
def test_follow_within_an_origin_keeps_them(where: str) -> None:
    assert follow(_hop("GET", _SENT), 302, where).headers == _SENT


@pytest.mark.parametrize(
    ("where", "url"),
    [
        ("x", "https://example.com/a/x"),
        ("../x", "https://example.com/x"),
        ("?q", "https://example.com/a/b?q"),
        ("\\\\evil.com/", "https://example.com/a/%5C%5Cevil.com/"),
    ],
)
def test_follow_resolves_relative_addresses(where: str, url: str) -> None:
    assert str(follow(_hop("GET"), 302, where).target.url) == url


@pytest.mark.parametrize(
    "where",
    ["file:///etc/passwd", "ftp://example.com/", "https://u:p@example.com/", "http://127.1/", "http://[x/", "//[::g]"],
)
def test_follow_of_a_bad_address(where: str) -> None:
    with pytest.raises(Invalid):
        follow(_hop("GET"), 302, where)


def test_location_only_of_redirects() -> None:
    assert [location(status, {"location": "/x"}) for status in (200, 201, 300, 304, 302)] == [None] * 4 + ["/x"]
    assert location(302, {}) is None
