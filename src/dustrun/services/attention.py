"""What needs a person, for `/metrics`."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from dustrun import metrics
from dustrun.errors import DustrunError
from dustrun.storage.data import attention
from dustrun.storage.db.database import Database

_NEEDED = metrics.gauge(
    "dustrun_needs_attention",
    "What needs a person, by kind, in the whole store: every server of it says the same.",
    "kind",
)
_FREE = metrics.gauge("dustrun_disk_free_bytes", "Free space of the disk with the data folder.")


async def measure(database: Database, data_dir: Path) -> None:
    """Sets the gauges. What cannot be told now, such as that of a store which is away, has no value."""
    _NEEDED.values.clear()
    _FREE.values.clear()
    with contextlib.suppress(DustrunError):
        for kind, number in (await database.read(attention.count)).items():
            _NEEDED.set(number, kind)
    with contextlib.suppress(OSError):
        _FREE.set(shutil.disk_usage(data_dir).free)
