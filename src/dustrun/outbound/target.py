"""Strict URL parsing. The same result is checked, resolved, connected to and written into the request."""

from __future__ import annotations

import re
from ipaddress import IPv6Address
from typing import Final

from yarl import URL

from dustrun.outbound.guard import is_name, parse_address, refuse
from dustrun.outbound.networks import Address, address_text
from dustrun.records import dataclass

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_AUTHORITY = re.compile(r"\A[A-Za-z]+://([^/?#]*)")
# A URL with only these characters is sent unchanged: quoting it again would break signed URLs.
_VERBATIM = re.compile(r"(?:[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=]|%[0-9A-Fa-f]{2})*")
MAX_CHARS: Final = 8192


@dataclass(frozen=True, slots=True)
class Target:
    """The destination of one request. `address` is set if the URL contains an IP address instead of a host name."""

    url: URL
    host: str
    port: int
    address: Address | None

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host and port; credentials are sent only to the same origin."""
        return self.url.scheme, self.host, self.port


def parse(text: str) -> Target:
    """Parses an http(s) URL; raises `Invalid` for other schemes and for ambiguous spellings."""
    url = _read(text)
    if url.scheme not in ("http", "https"):
        raise refuse(f'The URL {_shown(text)} must start with "http://" or "https://".')
    host = (url.raw_host or "").lower().removesuffix(".")
    address = parse_address(host)
    in_brackets = "[" in url.raw_authority
    if in_brackets != isinstance(address, IPv6Address) or (address is None and not is_name(host)):
        raise refuse(
            f'The host "{host[:100]}" is not valid: write a host name, an IPv4 address as four decimal numbers, or '
            "an IPv6 address in brackets."
        )
    port = url.port
    if not port:
        raise refuse(f"The URL {_shown(text)} has no valid port.")
    host = host if address is None else address_text(address)
    return Target(url.with_host(host).with_fragment(None), host, port, address)


def _read(text: str) -> URL:
    if len(text) > MAX_CHARS:
        raise refuse(f"The URL has {len(text)} characters; at most {MAX_CHARS} are accepted.")
    if _CONTROL.search(text):
        raise refuse(f"The URL {_shown(text)} contains a control character.")
    authority = _AUTHORITY.match(text)
    if authority is None:
        raise refuse(f'The URL {_shown(text)} must start with "http://" or "https://".')
    _check_authority(authority[1])
    try:
        url = URL(text, encoded=_VERBATIM.fullmatch(text) is not None)
        _ = url.port  # yarl parses a verbatim URL lazily
        return url
    except ValueError as error:
        raise refuse(f"The URL {_shown(text)} is not valid: {error}") from None


def _check_authority(authority: str) -> None:
    if "@" in authority:
        raise refuse(
            "The URL contains a user name before the host; send credentials in a header such as Authorization."
        )
    if "\\" in authority or "%" in authority or " " in authority:
        raise refuse(f'The host "{authority[:100]}" is not valid: it contains a backslash, a percent sign or a space.')


def _shown(text: str) -> str:
    """The URL for a message, without query and credentials, which may be secret."""
    bare = re.sub(r"//[^/?#]*@", "//", text).partition("?")[0].partition("#")[0]
    return f'"{bare[:200]}"'
