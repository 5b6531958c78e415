"""The text of an answer while the model writes it: each piece is on disk before it is shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from dustrun import clock
from dustrun.assistant.record import Record

_PAUSE_S: Final = 0.15
_MOST_CHARS: Final = 60_000


class Writing:
    """Grows one part of a message. `masked` hides secrets in a whole text."""

    def __init__(self, record: Record, masked: Callable[[str], str]) -> None:
        self._record = record
        self._masked = masked
        self._heard = ""
        self._shown = ""
        self._seq: int | None = None
        self._next_at: float | None = None

    @property
    def heard_bytes(self) -> int:
        """How much of the answer has come."""
        return len(self._heard.encode())

    async def add(self, text: str) -> None:
        """More of the text has come."""
        self._heard += text
        now = clock.monotonic_s()
        if self._next_at is None:  # a short answer comes in one piece
            self._next_at = now + _PAUSE_S
        if now < self._next_at or len(self._heard) > _MOST_CHARS:
            return
        self._next_at = now + _PAUSE_S
        await self._show(self._safe())

    async def finish(self, text: str) -> None:
        """The answer has ended; its whole text is stored."""
        self._heard = text
        await self._show(self._masked(text))

    def _safe(self) -> str:
        """What can be shown: up to the last blank, since the word after it may become a secret."""
        ends = max(self._heard.rfind(" "), self._heard.rfind("\n"))
        found = self._masked(self._heard[: ends + 1])
        return found if found.startswith(self._shown) else self._shown

    async def _show(self, text: str) -> None:
        if text and text != self._shown:
            more = text[len(self._shown) :] if text.startswith(self._shown) else ""
            self._seq = await self._record.say(text, more, self._seq)
            self._shown = text
