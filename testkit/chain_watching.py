"""A server whose workflows are triggered by a chain, and what came of it."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dustrun.storage.db.trigger_tables import subscriptions, trigger_events, trigger_gaps
from testkit.chain.anvil import CHAIN_ID
from testkit.chain.pings import CONTRACT, SIGNATURE
from testkit.composition import Composition, composed

_POLLED = frozenset({"token-price", "evm-call-changed", "evm-call-level", "balance-level"})
_WITHIN_S = 60.0
PINGED: dict[str, Any] = {"chainId": CHAIN_ID, "address": CONTRACT, "eventSignature": SIGNATURE}


def definition(type: str, payload: Mapping[str, Any]) -> dict[str, Any]:
    """A workflow with one trigger, which logs what it gets."""
    say = {"type": "log", "payload": {"message": "{{$trigger.body}}"}}
    return {
        "nodes": {"root": {"type": type, "payload": dict(payload), "children": ["say"]}, "say": say},
        "triggerNodeIds": ["root"],
    }


@dataclass(slots=True)
class Watching:
    """The server, and questions about its events."""

    server: Composition

    async def create(self, type: str = "evm-log", **config: Any) -> str:
        """A workflow with that trigger; its id."""
        base = PINGED if type == "evm-log" else {"chainId": CHAIN_ID}
        made = await self.server.owner.create_workflow(definition(type, {**base, **config}))
        return str(made["id"])

    async def publish(self, type: str = "evm-log", **config: Any) -> str:
        """Publishes a workflow, and waits until its trigger watches; its id."""
        workflow_id = await self.create(type, **config)
        published = await self.server.owner.post(f"/v1/workflows/{workflow_id}/publish")
        assert published.status == 200, published.body
        await self.until(lambda: self._has_cursor(workflow_id, type))
        return workflow_id

    async def _has_cursor(self, workflow_id: str, type: str = "evm-log") -> bool:
        """The cursor of a chain names a block to begin at until its first look has stored that block's hash."""
        cursor = (await self.subscription(workflow_id))["cursor"]
        return cursor is not None and (type in _POLLED or "hash" in cursor)

    async def subscription(self, workflow_id: str) -> dict[str, Any]:
        """The workflow's only subscription as it is stored."""
        columns = [subscriptions.c[name] for name in ("state", "state_reason", "cursor", "cursor_version")]
        (row,) = await self.server.rows(sa.select(*columns).where(subscriptions.c.workflow_id == workflow_id))
        found = dict(zip((column.name for column in columns), row, strict=True))
        return {**found, "cursor": json.loads(found["cursor"]) if found["cursor"] else None}

    async def gaps(self, workflow_id: str) -> list[tuple[int, int, str]]:
        """First and last block of each gap, and why."""
        t = trigger_gaps.c
        query = sa.select(t.range, t.reason).where(t.workflow_id == workflow_id).order_by(t.pk)
        found = [(json.loads(range), reason) for range, reason in await self.server.rows(query)]
        return [(range["fromBlock"], range["toBlock"], reason) for range, reason in found]

    async def info(self, workflow_id: str) -> dict[str, Any]:
        """What the API tells of its trigger."""
        answer = await self.server.owner.get(f"/v1/workflows/{workflow_id}/trigger-info")
        return dict(answer.data["triggers"][0])

    async def until_failed(self, workflow_id: str) -> str:
        """Waits until its trigger has stopped; why."""
        await self.until(lambda: self._is_failed(workflow_id))
        return str((await self.subscription(workflow_id))["state_reason"])

    async def _is_failed(self, workflow_id: str) -> bool:
        return bool((await self.subscription(workflow_id))["state"] == "failed")

    async def until_scanned(self, workflow_id: str, number: int) -> None:
        """Waits until the stored cursor is at a height."""
        await self.until(lambda: self._is_at(workflow_id, number))

    async def _is_at(self, workflow_id: str, number: int) -> bool:
        cursor = (await self.subscription(workflow_id))["cursor"]
        return cursor is not None and cursor.get("number", -1) >= number

    async def until_count(self, workflow_id: str, count: int) -> list[dict[str, Any]]:
        """Waits until so many events have started runs; their payloads."""
        await self.until(lambda: self._has_count(workflow_id, count))
        return await self.bodies(workflow_id)

    async def _has_count(self, workflow_id: str, count: int) -> bool:
        return len(await self.bodies(workflow_id)) >= count

    async def events(self, workflow_id: str) -> list[tuple[str, str, dict[str, Any], str | None]]:
        """Key, outcome, payload and run of each event, oldest first."""
        t = trigger_events.c
        query = sa.select(t.key, t.outcome, t.payload, t.run_id).where(t.workflow_id == workflow_id).order_by(t.pk)
        return [
            (key, outcome, json.loads(payload), run) for key, outcome, payload, run in await self.server.rows(query)
        ]

    async def bodies(self, workflow_id: str) -> list[dict[str, Any]]:
        """The payloads of the events that started runs."""
        return [payload for _, outcome, payload, run in await self.events(workflow_id) if outcome == "started" and run]

    async def runs(self, workflow_id: str) -> list[dict[str, Any]]:
        """What runs were told, whatever became of the events since."""
        return [payload for _, _, payload, run in await self.events(workflow_id) if run]

    async def live(self, workflow_id: str) -> dict[tuple[str, int], int]:
        """The events that count in the end, by transaction and position."""
        found: dict[tuple[str, int], int] = {}
        for key, outcome, payload, _ in await self.events(workflow_id):
            if outcome == "started" and key.count(":") == 2:
                found[payload["transactionHash"], payload["position"]] = int(payload["args"]["number"])
        return found

    async def balance(self, workflow_id: str) -> Counter[tuple[str, int]]:
        """How often each event stands in the end: its runs, less the runs that took it back."""
        found: Counter[tuple[str, int]] = Counter()
        for _, _, payload, run in await self.events(workflow_id):
            if run is not None:
                found[payload["transactionHash"], payload["position"]] += -1 if payload["reorg"] == "retracted" else 1
        return found

    async def pause(self, seconds: float) -> None:
        """Lets some time pass: what happens meanwhile is left to chance."""
        await asyncio.sleep(seconds)

    async def until_events(self, workflow_id: str, expected: Mapping[tuple[str, int], int]) -> None:
        """Waits until exactly these events count."""
        try:
            await self.until(lambda: self._has(workflow_id, expected))
        except TimeoutError:
            assert await self.live(workflow_id) == expected

    async def _has(self, workflow_id: str, expected: Mapping[tuple[str, int], int]) -> bool:
        return await self.live(workflow_id) == expected

    async def until(self, holds: Any, within_s: float = _WITHIN_S) -> None:
        """Waits until something holds."""
        async with asyncio.timeout(within_s):
            while not await holds():
                await asyncio.sleep(0.02)


@asynccontextmanager
async def watching(
    url: str | Sequence[str], folder: Path, network: Mapping[str, Any] | None = None, **settings: Any
) -> AsyncIterator[Watching]:
    """A server on the node of that URL, or of several; `network`: what the chain's file says besides."""
    networks = folder / "networks"
    networks.mkdir(exist_ok=True)
    described = {"chainId": CHAIN_ID, "blockTimeMs": 300, "confirmations": 2, **(network or {})}
    (networks / "local.json").write_text(json.dumps(described))
    chain = {"networks_dir": networks, "chain_endpoints": {CHAIN_ID: [url] if isinstance(url, str) else list(url)}}
    async with composed(folder, **chain, **settings) as server:
        yield Watching(server)
