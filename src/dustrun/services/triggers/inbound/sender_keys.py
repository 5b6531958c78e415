"""What senders publish: the keys that some of them sign with, and addresses that they want to be asked for."""

from __future__ import annotations

from typing import Final

from dustrun import clock
from dustrun.errors import DustrunError, Temporary
from dustrun.sdk.context import Http, HttpRequest

_FRESH_S: Final = 600.0
_MOST_KEPT: Final = 32
_MOST_BYTES: Final = 65_536
_TIMEOUT_S: Final = 10.0


class SenderKeys:
    """Asks senders, through the outbound guard and without following redirects. Their keys are kept for ten minutes."""

    def __init__(self, http: Http) -> None:
        self._http = http
        self._kept: dict[str, tuple[str, float]] = {}

    async def read(self, url: str) -> str:
        """The key at an address that `webhook_senders.key_url` allows; raises `Temporary` without it."""
        kept = self._kept.get(url)
        if kept is not None and clock.monotonic_s() < kept[1]:
            return kept[0]
        text = await self._get(url)
        if len(self._kept) >= _MOST_KEPT:
            self._kept.clear()
        self._kept[url] = text, clock.monotonic_s() + _FRESH_S
        return text

    async def visit(self, url: str) -> None:
        """Asks for an address that a sender has signed; raises `Temporary` if it does not answer 200."""
        await self._get(url)

    async def _get(self, url: str) -> str:
        asked = HttpRequest("GET", url, timeout_s=_TIMEOUT_S, max_redirects=0, max_bytes=_MOST_BYTES)
        try:
            answer = await self._http.request(asked)
        except DustrunError as error:
            raise Temporary(f"The sender of the webhook cannot be asked: {error.message}") from None
        if answer.status != 200:
            raise Temporary(f"The sender of the webhook answers with status {answer.status}.")
        return answer.body.decode("utf-8", "replace")
