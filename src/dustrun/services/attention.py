"""States that need a person: counted for `/metrics`, and as lines for those who may see them."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
from pathlib import Path
from typing import Final

from dustrun import clock, metrics
from dustrun.core.hooks import DISK_LOW, DISK_RECOVERED
from dustrun.errors import DustrunError
from dustrun.services.access.principal import Principal
from dustrun.storage.access import keys
from dustrun.storage.data import attention
from dustrun.storage.data.attention import AttentionItem
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer
from dustrun.storage.hooks import reading

_NEEDED = metrics.gauge(
    "dustrun_needs_attention",
    "What needs a person, by kind, in the whole store: every server of it says the same.",
    "kind",
)
_FREE = metrics.gauge("dustrun_disk_free_bytes", "Free space of the disk with the data folder.")
_DISK: Final = "disk-low"
_SHOWN: Final = 50
_LOW_BYTES: Final = 1 << 30
_SEEN_WITH: Final = {
    "payment": "transaction:read",
    "trigger": "workflow:read",
    "connector": "connector:read",
    "hook": "hook:read",
}
"""The permission that the page of each thing needs, by the first word of its kind."""


async def measure(database: Database, data_dir: Path) -> None:
    """Sets the gauges. What cannot be told now, such as that of a store which is away, has no value."""
    _NEEDED.values.clear()
    _FREE.values.clear()
    with contextlib.suppress(DustrunError):
        for kind, number in (await database.read(attention.count)).items():
            _NEEDED.set(number, kind)
    with contextlib.suppress(OSError):
        _FREE.set(shutil.disk_usage(data_dir).free)


async def list_for(
    principal: Principal, database: Database, data_dir: Path, low_bytes: int = _LOW_BYTES
) -> list[AttentionItem]:
    """The states that need a person, as far as the key may see them; the worse first, at most 50."""
    found = await database.read(lambda tx: attention.list_of(tx, principal.org_id))
    disk = await asyncio.to_thread(_disk, data_dir, low_bytes) if principal.may("metrics:read") else []
    return [*disk, *(one for one in found if _may_see(principal, one))][:_SHOWN]


def _may_see(principal: Principal, need: AttentionItem) -> bool:
    area = need.kind.partition("-")[0]
    if not principal.may(_SEEN_WITH[area]):
        return False
    if area == "hook":
        return not principal.is_limited
    if area == "connector":
        return principal.may_use_connector(need.id or "")
    is_own = need.wallet_id is None or principal.may_use_wallet(need.wallet_id)
    return is_own and principal.may_use_workflow(need.workflow_id)


class DiskWatch:
    """Tells hooks when the disk with the data folder becomes low, and when it no longer is: those of the organisations
    that operate the server. One that is low at the start is told anew."""

    def __init__(self, writer: Writer, data_dir: Path, low_bytes: int = _LOW_BYTES) -> None:
        self._writer = writer
        self._data_dir = data_dir
        self.low_bytes = low_bytes
        self._is_low = False

    async def look(self) -> None:
        """Looks once. On a disk that is too full to write it down, it is told when there is room for that."""
        free = shutil.disk_usage(self._data_dir).free
        margin = self.low_bytes // 10 if self._is_low else 0  # what hovers around the limit is told once
        if (is_low := free < self.low_bytes + margin) == self._is_low:
            return
        type_ = DISK_LOW if is_low else DISK_RECOVERED
        data = {"message": _said(free), "name": socket.gethostname()}

        def unit(tx: Tx) -> None:
            for org_id in keys.list_organizations_of_operators(tx):
                reading.add(tx, org_id=org_id, type_=type_, at=clock.now_ms(), data=data)

        await self._writer.write(unit)
        self._is_low = is_low


def _said(free: int) -> str:
    return f"{free >> 20} MiB are free on the disk with the data folder; a full disk stops every run."


def _disk(data_dir: Path, low_bytes: int) -> list[AttentionItem]:
    """Concerns the server and no organisation, so those see it who may see the server's metrics."""
    with contextlib.suppress(OSError):
        if (free := shutil.disk_usage(data_dir).free) < low_bytes:
            return [AttentionItem(_DISK, None, None, None, "", clock.now_ms(), _said(free))]
    return []
