"""`dustrun doctor`: checks of what processes that share a store need besides it: each other, and Temporal."""

from __future__ import annotations

import asyncio

from dustrun.cli.doctor.finding import Finding
from dustrun.services.sharing.joining import place_of
from dustrun.settings import Settings
from dustrun.storage.db import store_facts
from dustrun.storage.db.database import Database
from dustrun.storage.sharing import processes
from dustrun.storage.sharing.processes import ProcessRow

_ROLES = ("api", "engine", "triggers")


def sharing(settings: Settings, database: Database) -> list[Finding]:
    """Checks the processes that share the store, and Temporal if the settings name it."""
    if not settings.is_shared:
        return []
    living = database.read_now(processes.list_living)
    clocks = _clocks(settings, living)
    found = [_roles(living), _versions(living), _engine(settings, database, living), clocks]
    return found if settings.temporal_address is None else [*found, temporal(settings)]


def _roles(living: list[ProcessRow]) -> Finding:
    """Whether every role is somebody's."""
    shown = "; ".join(f"{one.name or one.id}: {', '.join(sorted(one.roles))}" for one in living) or "none"
    missing = [role for role in _ROLES if not any(role in one.roles for one in living)]
    if not living or not missing:
        return Finding("processes", "ok", shown)
    mend = f"Start a process with it: dustrun serve --roles {','.join(missing)}"
    return Finding("processes", "bad", f"nobody has the role {', '.join(missing)} ({shown})", mend)


def _versions(living: list[ProcessRow]) -> Finding:
    """Whether the processes have one version, or versions that work together."""
    versions = sorted({one.version for one in living})
    shown = ", ".join(versions) or "no process runs"
    if len({version.split(".")[0] for version in versions}) > 1:
        mend = "Stop those of the older version: they do not work together."
        return Finding("versions", "bad", shown, mend)
    if len(versions) > 1:
        return Finding("versions", "warning", f"{shown}: an upgrade is under way", "Upgrade the other processes too.")
    return Finding("versions", "ok", shown)


def _clocks(settings: Settings, living: list[ProcessRow]) -> Finding:
    """Whether the clocks of the processes agree with the database's, as they last told."""
    most = settings.max_clock_skew_ms
    off = [one for one in living if one.skew_ms is not None and abs(one.skew_ms) > most]
    if not off:
        return Finding("clocks", "ok", f"those of all processes are within {most / 1000:.1f} s of the database's")
    shown = "; ".join(f"{one.name or one.id} is {_ahead(one.skew_ms or 0)}" for one in off)
    mend = "Turn on time synchronisation there and on the database's machine (timedatectl set-ntp true)."
    return Finding("clocks", "bad", f"{shown} the database's; at most {most / 1000:.1f} s are allowed", mend)


def _ahead(skew_ms: int) -> str:
    return f"{abs(skew_ms) / 1000:.1f} s {'ahead of' if skew_ms > 0 else 'behind'}"


def _engine(settings: Settings, database: Database, living: list[ProcessRow]) -> Finding:
    """Whether these settings name the engine that the living processes use."""
    used, ours = database.read_now(lambda tx: store_facts.find(tx, store_facts.ENGINE)), place_of(settings)
    if used is None or used == ours or not living:
        return Finding("engine", "ok", ours)
    mend = "Give all processes the same DUSTRUN_TEMPORAL_ADDRESS, _NAMESPACE and _QUEUE."
    return Finding("engine", "bad", f"the processes work {used}, these settings say {ours}", mend)


def temporal(settings: Settings) -> Finding:
    """Whether Temporal answers and has the namespace."""
    try:
        from dustrun.engine import temporal as engine  # optional dependency
    except ImportError as error:
        return Finding("temporal", "bad", f"the package {error.name} is missing", 'pip install "dustrun[cluster]"')
    assert settings.temporal_address is not None
    place = engine.Place(settings.temporal_address, settings.temporal_namespace, settings.temporal_queue)
    trouble = asyncio.run(engine.find_trouble(place))
    if trouble is None:
        return Finding("temporal", "ok", f'{place.address} answers and has the namespace "{place.namespace}"')
    return Finding("temporal", "bad", trouble, "Accepted runs are on disk; they go on once Temporal answers.")
