"""Reading URLs: one spelling comes out, and it is what goes into the request."""

from __future__ import annotations

import pytest

from dustrun.errors import Invalid
from dustrun.outbound.resolver import parse


@pytest.mark.parametrize(
    ("text", "url", "host", "port"),
    [
        ("http://example.com", "http://example.com", "example.com", 80),
        ("HTTPS://Example.COM.:443/a", "https://example.com/a", "example.com", 443),
        ("https://example.com:8443/", "https://example.com:8443/", "example.com", 8443),
        ("http://Straße.de/ü?q=a b", "http://xn--strae-oqa.de/%C3%BC?q=a+b", "xn--strae-oqa.de", 80),
        ("http://ｅｘ。com/", "http://ex.com/", "ex.com", 80),
        ("http://8.8.8.8./x#y", "http://8.8.8.8/x", "8.8.8.8", 80),
        ("http://[2606:4700:0::1111]/", "http://[2606:4700::1111]/", "2606:4700::1111", 80),
    ],
)
def test_parse(text: str, url: str, host: str, port: int) -> None:
    target = parse(text)
    assert (str(target.url), target.host, target.port) == (url, host, port)


def test_parse_leaves_a_signed_url_as_it_was_written() -> None:
    text = "https://bucket.example.com/a%2Fb/../c~%7E?X-Sig=a%2Bb%2f&x=%41+1&&empty=;"
    assert str(parse(text).url) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "example.com",
        "//example.com/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://example.com/",
        "javascript:alert(1)",
        "http://",
        "http:///x",
        "http:/example.com",
        "http:example.com",
        "http://user@example.com/",
        "http://:@example.com/",
        "http://example.com\\@evil.com/",
        "http://exa mple.com/",
        "http://example.com%00.evil.com/",
        "http://example.com\r\nX: y/",
        "http://example.com/\r\nX: y",
        "http://a..b/",
        "http://.a/",
        "http://example.com../",
        "http://example.com:0/",
        "http://example.com:99999/",
        "http://example.com:port/",
        "http://[::1/",
        "http://[v1.x]/",
        "http://[::1]x/",
        "http://[fe80::1%25eth0]/",
        "http://ex℀mple.com/",
        f"http://example.com/{'a' * 9000}",
    ],
)
def test_parse_of_what_is_no_http_url(text: str) -> None:
    with pytest.raises(Invalid):
        parse(text)


def test_parse_does_not_repeat_secrets_in_its_message() -> None:
    with pytest.raises(Invalid) as caught:
        parse("ftp://user:hunter2@example.com/?token=hunter3")
    assert "hunter" not in caught.value.message
