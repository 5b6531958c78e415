"""Those who use several servers on one store: each call may go to another one of them."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Sequence
from typing import Any

import aiohttp

from bench.crash_load import Api, Findings
from testkit import outbox_world
from testkit.crash_workflows import KINDS

_TRY_AGAIN_S = 0.2


class MovingApi(Api):
    """Each call and each connection of a stream goes to another API process."""

    def __init__(self, bases: list[str], key: str, findings: Findings) -> None:
        super().__init__(bases[0], key, findings)
        self._bases = bases
        self._calls = 0

    def _move(self) -> None:
        self._calls += 1
        self._base = self._bases[self._calls % len(self._bases)]

    async def once(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """One call, to the next process."""
        self._move()
        return await super().once(method, path, body, **headers)

    async def frames(self, path: str, last_id: str | None) -> AsyncIterator[tuple[str, str | None, str]]:
        """One connection, to the next process."""
        self._move()
        async for frame in super().frames(path, last_id):
            yield frame


class AnyApi(outbox_world.Api):
    """A caller of whichever server it meets, who does not give up while it is gone."""

    def __init__(self, bases: Sequence[str], key: str, chance: random.Random, timeout_s: float = 10) -> None:
        headers = {"Authorization": f"Bearer {key}"}
        self._chance = chance
        self._sessions = [
            aiohttp.ClientSession(
                base,
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=timeout_s),
                connector=aiohttp.TCPConnector(limit=50, force_close=True),
            )
            for base in bases
        ]

    @property
    def _session(self) -> aiohttp.ClientSession:  # type: ignore[override]
        return self._chance.choice(self._sessions)

    async def close(self) -> None:
        """Closes the connections."""
        for session in self._sessions:
            await session.close()

    async def deliver(self, path: str, name: str) -> dict[str, Any]:
        """One delivery of a webhook, sent again as senders do, under the same name, until it is accepted."""
        while True:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError, ValueError):
                headers = {"X-Delivery": name}
                async with self._session.post(path, json={"name": name}, headers=headers) as answer:
                    found: dict[str, Any] = await answer.json()
                    if answer.status in (200, 202):
                        return found["data"]  # type: ignore[no-any-return]
                    if answer.status != 503:
                        raise RuntimeError(f"delivery {name} was answered {answer.status}: {found}")
            await asyncio.sleep(_TRY_AGAIN_S)


async def create_workflows(api: Api) -> dict[str, str]:
    """One workflow of each kind that users start; their ids by name."""
    created: dict[str, str] = {}
    for kind in KINDS:
        body = {"name": kind.name, "description": "", "definition": kind.definition(created)}
        status, found = await api.once("POST", "/v1/workflows", body)
        if status != 200:
            raise RuntimeError(f"{kind.name} was answered {status}: {found}")
        created[kind.name] = found["data"]["id"]
    return created
