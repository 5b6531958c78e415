"""Which hosts a credential may be sent to."""

from __future__ import annotations

import pytest

from dustrun.core.text.hosts import is_allowed, parse_rule


@pytest.mark.parametrize(
    ("entry", "asked", "allowed"),
    [
        ("api.example.com", ("https", "api.example.com", 443), True),
        ("API.example.com", ("https", "api.example.com", 443), True),
        ("api.example.com", ("http", "api.example.com", 80), False),
        ("api.example.com", ("https", "api.example.com", 8443), False),
        ("api.example.com", ("https", "evil-api.example.com", 443), False),
        ("api.example.com", ("https", "api.example.com.evil.net", 443), False),
        ("api.example.com:8443", ("https", "api.example.com", 8443), True),
        ("*.example.com", ("https", "a.b.example.com", 443), True),
        ("*.example.com", ("https", "example.com", 443), False),
        ("*.example.com", ("https", "evilexample.com", 443), False),
        ("http://10.0.0.5:8080", ("http", "10.0.0.5", 8080), True),
        ("http://localhost", ("http", "localhost", 80), True),
        ("[::1]:8443", ("https", "::1", 8443), True),
    ],
)
def test_entry_allows(entry: str, asked: tuple[str, str, int], allowed: bool) -> None:
    assert is_allowed([parse_rule(entry)], *asked) is allowed


@pytest.mark.parametrize(
    "entry",
    ["", "*", "*.com", "*.10.0.0.5", "a b", "ftp://a.com", "a.com/path", "u@a.com", "a.com:0", "a.com:99999", "-a.com"],
)
def test_what_is_no_host_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match=r"is not a host: write one|is too wide: add the domain"):
        parse_rule(entry)
