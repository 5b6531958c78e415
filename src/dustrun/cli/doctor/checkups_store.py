"""`dustrun doctor`: checks of the store, opened directly; they never create or change a store."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dustrun import clock
from dustrun.cli.doctor import checkups_money, checkups_types
from dustrun.cli.doctor.checkups_machine import answers_as_ours
from dustrun.cli.doctor.finding import Finding
from dustrun.errors import DustrunError
from dustrun.services.connectors.grants import state_of
from dustrun.services.sharing.presence import place_of
from dustrun.settings import Settings
from dustrun.storage.access import audit
from dustrun.storage.backup import copy_detection
from dustrun.storage.data import consents
from dustrun.storage.db import migrate, store_facts
from dustrun.storage.db.database import Database
from dustrun.storage.db.lock import file_of
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import runs
from dustrun.storage.secrets.vault import Vault
from dustrun.storage.sharing import processes
from dustrun.storage.sharing.processes import ProcessRow

# `dustrun doctor`: checks of what processes that share a store need besides it: each other, and Temporal.


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
    place = engine.TemporalAddress(settings.temporal_address, settings.temporal_namespace, settings.temporal_queue)
    trouble = asyncio.run(engine.find_trouble(place))
    if trouble is None:
        return Finding("temporal", "ok", f'{place.address} answers and has the namespace "{place.namespace}"')
    return Finding("temporal", "bad", trouble, "Accepted runs are on disk; they go on once Temporal answers.")


_MIB = 2**20
_LARGE_WAL = 64 * _MIB
_CHECK_UP_TO = 256 * _MIB
_LATE_MS = 60_000
_RESTORED_LONG_AGO_MS = 7 * 86_400_000

_IS_OPEN = sa.or_(runs.c.status == "running", runs.c.status == "waiting")
_LATE = Statement(
    sa.select(sa.func.count(), sa.func.min(runs.c.wake_at)).where(
        _IS_OPEN, runs.c.status == "waiting", runs.c.wake_at < sa.bindparam("before", type_=sa.BigInteger)
    )
)
_OPEN = Statement(sa.select(sa.func.count()).where(_IS_OPEN))


def store(settings: Settings) -> list[Finding]:
    """Runs every check of the configured store."""
    url = settings.store_url()
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "sqlite" and not Path(parsed.database or "").is_file():
        return [Finding("store", "ok", f'"{parsed.database}" does not exist; the first `dustrun serve` creates it')]
    try:
        database = Database(url)
    except (sa.exc.SQLAlchemyError, ImportError) as error:
        return [Finding("store", "bad", f"the database URL is not usable: {error}", "Check DUSTRUN_DATABASE_URL.")]
    try:
        return _look(settings, database)
    finally:
        database.close()


def _look(settings: Settings, database: Database) -> list[Finding]:
    first = schema(database)
    if first.state == "bad":
        return [first]
    findings = [first]
    if database.is_sqlite:
        path = Path(sa.make_url(settings.store_url()).database or "")
        findings += [whole(path), write_ahead_log(path), *safety(settings)]
    else:
        findings += [clock_of(database, settings), *postgresql(database)]
    running = lock(settings, database)
    findings.append(running)
    if migrate.revision_of(database) == migrate.head():
        findings += sharing(settings, database)
        findings += [
            secrets(settings, database),
            *late_runs(settings, database),
            *grants(database),
            *restored(database),
        ]
        findings.append(audit_log(database))
        findings += checkups_types.types(settings, database)
        findings += checkups_money.local(settings, database)
    return findings


def schema(database: Database) -> Finding:
    """Whether the store is reachable and has this version's schema."""
    try:
        revision = migrate.revision_of(database)
    except DustrunError as error:
        mend = "Check that the database is running and that DUSTRUN_DATABASE_URL has the right host, name and password."
        return Finding("store", "bad", error.message, mend if not database.is_sqlite else "Restore a backup.")
    if revision is None:
        return Finding("store", "ok", "empty; the first `dustrun serve` creates the tables")
    if revision > migrate.head() and migrate.allows(database, migrate.head()):
        says = f'the schema is "{revision}", newer than "{migrate.head()}" of this version, which can use it'
        return Finding(
            "store", "warning", says, "Update this machine too, to the newest version that runs on the store."
        )
    if revision > migrate.head():
        mend = "Go back to the newer version, or restore a backup from before it ran."
        says = f'the schema is "{revision}", newer than "{migrate.head()}" of this version'
        return Finding("store", "bad", says, mend)
    if revision < migrate.head():
        mend = "The next start upgrades it, which cannot be undone. Run dustrun backup first."
        return Finding("store", "warning", f'the schema is "{revision}", this version has "{migrate.head()}"', mend)
    return Finding("store", "ok", f'schema "{revision}"')


def whole(path: Path) -> Finding:
    """Whether a SQLite file is intact; large files are skipped."""
    if path.stat().st_size > _CHECK_UP_TO:
        return Finding("database file", "ok", f"{path.stat().st_size // _MIB} MiB, too large to check here")
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=10)) as connection:
            found = [str(row[0]) for row in connection.execute("PRAGMA quick_check(3)")]
    except sqlite3.DatabaseError as error:
        found = [str(error)]
    if found == ["ok"]:
        return Finding("database file", "ok", "sound")
    mend = "Stop the server, keep a copy of the folder, and restore the newest backup: dustrun restore FILE --replace."
    return Finding("database file", "bad", f"damaged: {'; '.join(found)[:300]}", mend)


def write_ahead_log(path: Path) -> Finding:
    """Whether SQLite's write-ahead log is checkpointed; a reader that never ends makes it grow."""
    log = path.with_name(path.name + "-wal")
    size = log.stat().st_size if log.exists() else 0
    says = f"{size / _MIB:.1f} MiB"
    if size <= _LARGE_WAL:
        return Finding("write-ahead log", "ok", says)
    mend = "Another program keeps the database open for reading (a copy, a database browser): stop it."
    return Finding("write-ahead log", "warning", f"{says}: it cannot be checkpointed", mend)


def safety(settings: Settings) -> list[Finding]:
    """Whether a power cut can lose commits that callers were told are durable."""
    if settings.sqlite_synchronous == "FULL":
        return []
    mend = "Unset DUSTRUN_SQLITE_SYNCHRONOUS, unless you accept that risk."
    says = "NORMAL: a power cut can lose the most recent commits, although callers were told they are durable"
    return [Finding("durability", "warning", says, mend)]


def postgresql(database: Database) -> list[Finding]:
    """Whether PostgreSQL syncs its commits to disk."""
    shown = database.read_now(lambda tx: tx.one(Statement(sa.text("SELECT current_setting('fsync')"))))
    if shown is not None and shown[0] == "on":
        return [Finding("durability", "ok", "PostgreSQL commits are durable")]
    mend = "Set fsync = on in postgresql.conf; without it a power cut can corrupt the whole database."
    return [Finding("durability", "bad", "PostgreSQL runs with fsync = off", mend)]


def clock_of(database: Database, settings: Settings) -> Finding:
    """Whether the clocks of this machine and the database agree; a server that shares its store does not start else."""
    apart, most = abs(database.read_now(processes.clock_skew)), settings.max_clock_skew_ms
    if apart <= most:
        return Finding("database clock", "ok", "agrees with this machine's clock")
    mend = "Turn on time synchronisation on both machines (timedatectl set-ntp true)."
    says = f"differs from this machine's clock by {apart / 1000:.3g} s"
    if not settings.is_shared:
        return Finding("database clock", "warning", says, mend)
    allowed = f"at most {most / 1000:.1f} s are allowed (setting max_clock_skew_ms)"
    return Finding("database clock", "bad", f"{says}; {allowed}: no server starts here", mend)


def lock(settings: Settings, database: Database) -> Finding:
    """Which process holds the store's lock, and whether it is a server that answers."""
    holder = _file_holder(file_of(database, settings.data_dir)) if database.is_sqlite else _session(database)
    if holder is None:
        return Finding("lock", "ok", "no server holds the store")
    if answers_as_ours(settings):
        return Finding("lock", "ok", f"held by the server ({holder})")
    mend = (
        "The server is stopping, hangs, or listens at another address. Check the process and stop it if it hangs; "
        "the lock ends with the process. Do not delete the lock file."
    )
    says = f"{holder} holds the store, and no server answers at {settings.host}:{settings.port}"
    return Finding("lock", "warning", says, mend)


def _file_holder(path: Path) -> str | None:
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return _process_of(os.fstat(handle).st_ino)
    finally:
        os.close(handle)
    return None


def _process_of(inode: int) -> str:
    """The process that holds a lock on a file, according to Linux; None elsewhere."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/locks").read_text().splitlines():
            parts = line.split()
            if parts[1] == "FLOCK" and parts[5].rpartition(":")[2] == str(inode):
                return f"process {parts[4]}"
    return "a process"


def _session(database: Database) -> str | None:
    query = (
        "SELECT a.pid FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid WHERE l.locktype = 'advisory'"
        " AND l.granted AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        " AND a.application_name LIKE 'dustrun%' LIMIT 1"
    )
    row = database.read_now(lambda tx: tx.one(Statement(sa.text(query))))
    return f"database session {row[0]}" if row else None


def secrets(settings: Settings, database: Database) -> Finding:
    """Whether the master key decrypts the store's secrets."""
    try:
        Vault(settings.master_key_file).unlock(database)
    except DustrunError as error:
        return Finding("secrets", "bad", error.message, "Without it connectors and wallets cannot be used.")
    return Finding("secrets", "ok", "the master key decrypts all secrets, or there are none")


def grants(database: Database) -> list[Finding]:
    """Connectors whose provider gives them no token until a person consents again."""
    found = [row for row in database.read_now(consents.list_connected) if state_of(row) == "needsReconnecting"]
    return [
        Finding(
            "connector",
            "warning",
            f'"{row.name}" needs reconnecting: its refresh token is no longer taken, or must not be sent again',
            f"dustrun connector connect {row.id}",
        )
        for row in found
    ]


def late_runs(settings: Settings, database: Database) -> list[Finding]:
    """Waiting runs that are due but that no server continues."""
    now = clock.now_ms()

    def query(tx: Tx) -> tuple[Any, Any]:
        return tx.one(_LATE, before=now - _LATE_MS), tx.one(_OPEN)

    late, unfinished = database.read_now(query)
    running = answers_as_ours(settings)
    if late[0]:
        since = clock.to_rfc3339(int(late[1]))
        says = f"{late[0]} waiting runs are overdue, the first since {since}"
        mend = "No server is running: start one." if not running else "Check the server's log, then restart it."
        return [Finding("waiting runs", "bad" if running else "warning", says, mend)]
    if unfinished[0] and not running:
        says = f"{unfinished[0]} runs are unfinished, and no server is running"
        return [Finding("waiting runs", "warning", says, "They continue when a server starts.")]
    return [Finding("waiting runs", "ok", f"{unfinished[0]} unfinished, none overdue")]


def audit_log(database: Database) -> Finding:
    """Whether every entry of the audit log is still as it was written."""
    found = database.read_now(audit.verify)
    if found.problem is None:
        older = f"; {found.unchained} from before there was a chain" if found.unchained else ""
        return Finding("audit log", "ok", f"{found.head.rows} chained entries, newest {found.head.hash[:16]}{older}")
    mend = "Somebody changed the database without the server. Keep a copy, and compare it with your newest backup."
    return Finding("audit log", "bad", found.problem, mend)


def restored(database: Database) -> list[Finding]:
    """Whether the store was restored from a backup or copied, so that later changes are missing."""
    here = copy_detection.find(database)
    before = database.read_now(copy_detection.recorded)
    if before is not None and not before.is_same(here):
        says = "it is not where it was last served: it was copied or moved"
        mend = (
            "If it was moved, and no server will ever run on the original, run dustrun moved before the next start. "
            "Otherwise start the server: its open runs do not spend until a person releases them."
        )
        return [Finding("store location", "warning", says, mend)]
    facts: list[Callable[[Tx], str | None]] = [
        lambda tx: store_facts.find(tx, store_facts.RESTORED_AT),
        lambda tx: store_facts.find(tx, store_facts.RESTORED_FROM),
    ]
    at, taken = (database.read_now(fact) for fact in facts)
    if at is None:
        return []
    when = clock.to_rfc3339(int(at))
    says = f"detected as a copy at {when}" if taken is None else f"restored at {when}, from {_moment(taken)}"
    if clock.now_ms() - int(at) > _RESTORED_LONG_AGO_MS:
        return [Finding("backup", "ok", says)]
    mend = (
        "Stop the server that it comes from for good. Open runs spend only after you release their wallets (dustrun "
        "tx release). Check what else was sent since."
    )
    if taken is None:
        mend += " If it was moved, not copied, stop its server and run dustrun moved."
    return [Finding("backup", "warning", says, mend)]


def _moment(at_ms: str) -> str:
    return clock.to_rfc3339(int(at_ms))
