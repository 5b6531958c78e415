"""Sends messages through `apprise`, each in a separate process (`notify_worker.py`) with a timeout."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import re
import signal
import sys
from collections.abc import Sequence
from typing import Any, Final

from dustrun import clock
from dustrun.errors import DustrunError, Invalid, Temporary, Uncertain
from dustrun.outbound.guard import Guard, refuse
from dustrun.sdk.context import NoConnection
from dustrun.sdk.notice import NotAccepted, Notice

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9]{0,39}://")
_AT_ONCE: Final = 2
_START_S: Final = 20.0
_CHECK_HOLDS_S: Final = 60.0
_MOST_CHECKED: Final = 100
_MOST_BYTES: Final = 65_536
_TOO_MANY: Final = 429
_UNAUTHORIZED: Final = 401
_UNPROCESSABLE: Final = 422
_LOGIN_REFUSED: Final = (530, 534, 535)
"""How a mail server says that a login is refused, or missing."""


class GuardedNotifier:
    """The `ctx.notify` of every node. `allow` are exceptions of the guard, as for HTTP; `start_s` is the time in
    seconds that the process may take to start, in addition to the message's timeout."""

    def __init__(self, allow: Sequence[str], *, start_s: float = _START_S) -> None:
        Guard.of(allow)
        self._start_s = start_s
        self._allow = list(allow)
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._checked: dict[bytes, tuple[float, Invalid | None]] = {}

    async def send(self, address: str, notice: Notice) -> str:
        """Sends one message; raises like `sdk.notice.Notifier`."""
        answer = await self._ask(address, notice, is_check=False)
        if notice.transmission is not None:
            notice.transmission.status = answer.get("status")
            notice.transmission.sent = bool(answer.get("sent") or answer.get("done") or answer.get("status"))
        error = _refusal(answer) or _failure(answer)
        if error is not None:
            raise error
        return str(answer["service"])

    async def check(self, address: str, notice: Notice) -> None:
        """Raises what `send` would raise before it connects to the service. Checks of one address soon after each
        other start one process."""
        now, key = clock.monotonic_s(), hashlib.sha256(f"{notice.format}\n{address}".encode()).digest()
        until, refusal = self._checked.get(key, (0.0, None))
        if until <= now:
            try:
                refusal = _refusal(await self._ask(address, notice, is_check=True))
            except Uncertain:
                return  # the service only prepares the message for too long: nothing is refused
            if len(self._checked) >= _MOST_CHECKED:
                self._checked.clear()
            self._checked[key] = (now + _CHECK_HOLDS_S, refusal)
        if refusal is not None:
            raise refuse(refusal.message)

    async def _ask(self, address: str, notice: Notice, *, is_check: bool) -> dict[str, Any]:
        if _SCHEME.match(address) is None:
            raise refuse("The address of the service must be a URL like slack://…; it is not shown here.")
        order = {
            "address": address,
            "title": notice.title,
            "body": notice.body,
            "format": notice.format,
            "kind": notice.kind,
            "allow": self._allow,
            "isCheck": is_check,
        }
        async with self._turns:
            return await _ask(json.dumps(order).encode(), notice.timeout_s + self._start_s)


async def _ask(order: bytes, timeout_s: float) -> dict[str, Any]:
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-B",
        "-m",
        "dustrun.outbound.notify_worker",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={"LANG": "C.UTF-8"},
        cwd="/",
        start_new_session=True,
        limit=_MOST_BYTES,
    )
    try:
        async with asyncio.timeout(timeout_s):
            said, _ = await child.communicate(order)
    except TimeoutError:
        raise Uncertain(
            f"The service did not accept the message within {timeout_s:g} s; it may still have been sent."
        ) from None
    finally:
        await _end(child)
    return _read(said)


def _read(said: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(said)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise Uncertain("The process that sends messages ended without an answer; the message may have been sent.")
    return answer


async def _end(child: asyncio.subprocess.Process) -> None:
    if child.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        await child.wait()


def _refusal(answer: dict[str, Any]) -> Invalid | None:
    """Why the message may not go out; None if it may."""
    return refuse(str(answer["refused"])) if answer.get("refused") else None


def _failure(answer: dict[str, Any]) -> DustrunError | None:
    """Converts the answer of the process to an error; None if the message was accepted."""
    if answer.get("done"):
        return None
    status = answer.get("status")
    if status == _TOO_MANY:
        return Temporary("The service limits the rate of messages (429).")
    if status is not None and status >= 300:
        message = f"The service did not accept the message: it answered {status}."
        if answer.get("isMail"):
            return NotAccepted(message, _UNAUTHORIZED if status in _LOGIN_REFUSED else _UNPROCESSABLE)
        return NotAccepted(message, status)
    if answer.get("sent"):
        return Uncertain("The service gave no clear answer; the message may have been sent.")
    return NoConnection("No connection to the service could be made.")
