"""Whether a process may join those that share a store: they must agree on the time, the version and the engine."""

from __future__ import annotations

from typing import Final

import dustrun
from dustrun.errors import Conflict
from dustrun.settings import Settings
from dustrun.storage.db import store_facts
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer
from dustrun.storage.sharing import processes
from dustrun.storage.sharing.processes import ProcessRow

_CLAIMS: Final = "without Temporal"


async def check_in(database: Database, writer: Writer, settings: Settings) -> None:
    """Raises `Conflict` if this process does not fit to those that live on the store."""
    place = place_of(settings)

    def unit(tx: Tx) -> None:
        skew = processes.clock_skew(tx)
        others = [one for one in processes.list_living(tx) if one.id != database.name]
        check_clock(skew, settings.max_clock_skew_ms)
        check_versions(others)
        _check_place(tx, place, others)

    await writer.write(unit)


def place_of(settings: Settings) -> str:
    """Who decides which process advances a run."""
    if settings.temporal_address is None:
        return _CLAIMS
    return f'with Temporal, namespace "{settings.temporal_namespace}", queue "{settings.temporal_queue}"'


def check_clock(skew_ms: int, most_ms: int) -> None:
    """Raises `Conflict` if this machine's clock and the database's differ too much."""
    if abs(skew_ms) > most_ms:
        ahead = "ahead of" if skew_ms > 0 else "behind"
        raise Conflict(
            f"The clock of this machine is {abs(skew_ms) / 1000:.1f} s {ahead} the database's; at most "
            f"{most_ms / 1000:.1f} s are allowed (setting max_clock_skew_ms), because waits and schedules go by it. "
            "Turn on time synchronisation on both machines (timedatectl set-ntp true)."
        )


def check_versions(others: list[ProcessRow]) -> None:
    """Raises `Conflict` if processes of another major version live on the store."""
    ours = dustrun.__version__
    foreign = sorted({one.version for one in others if one.version.split(".")[0] != ours.split(".")[0]})
    if foreign:
        raise Conflict(
            f"Processes of version {', '.join(foreign)} use this store, and this one is {ours}: only versions with the "
            "same first number work together. Stop those first, or start this one with their version."
        )


def _check_place(tx: Tx, place: str, others: list[ProcessRow]) -> None:
    known = store_facts.find(tx, store_facts.ENGINE)
    if known is not None and known != place and others:
        raise Conflict(
            f"The {len(others)} processes that use this store work {known}; this one is set to work {place}. Give all "
            "of them the same DUSTRUN_TEMPORAL_ADDRESS, DUSTRUN_TEMPORAL_NAMESPACE and DUSTRUN_TEMPORAL_QUEUE; to "
            "change them, stop all processes first."
        )
    if known != place:
        store_facts.put(tx, store_facts.ENGINE, place)
