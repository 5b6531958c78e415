"""`ctx.http` and `ctx.notify` of a simulated write: all that live does before it sends, and nothing is sent.

What a live run would certainly refuse is so refused by the same code. The action stops at its first request.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NoReturn

from dustrun.sdk.context import CheckingHttp, HttpRequest
from dustrun.sdk.notice import CheckingNotifier, Notice
from dustrun.services.connectors.connections import Opened


class BeforeSending(Exception):
    """The action is about to send, and nothing that can be known before refuses it."""


class RehearsalHttp:
    """`ctx.http`: checks each request, with the credential that a live run would put on it."""

    def __init__(self, http: CheckingHttp, opened: Opened | None = None) -> None:
        self._http = http
        self._opened = opened if opened is not None and opened.type.attaches else None

    async def request(self, request: HttpRequest) -> NoReturn:
        """Raises what live would, else `BeforeSending`."""
        if self._opened is not None:
            request = replace(request, authorize=self._opened.rehearse)
        await self._http.check(request)
        raise BeforeSending


class RehearsalNotifier:
    """`ctx.notify`: checks each message."""

    def __init__(self, notifier: CheckingNotifier) -> None:
        self._notifier = notifier

    async def send(self, address: str, notice: Notice) -> NoReturn:
        """Raises what live would, else `BeforeSending`."""
        await self._notifier.check(address, notice)
        raise BeforeSending
