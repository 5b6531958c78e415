"""The checks of `dustrun doctor`; each check is one function that returns a finding."""

from __future__ import annotations

import contextlib
import email.utils
import ipaddress
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal

import dustrun
from dustrun.cli.commands.serve import read_settings
from dustrun.cli.doctor import checkups_machine, checkups_money, checkups_store
from dustrun.cli.doctor.finding import Finding
from dustrun.cli.http.client import Client, find_key, find_server, key_file
from dustrun.cli.http.failures import CliError
from dustrun.settings import Settings
from dustrun.storage.db import server_file

_GIB = 2**30
_SYNCS = 20
_SLOW_SYNC_MS = 10.0
_CHAINS_S = 60  # the server waits for each unresponsive endpoint up to its own limit
_WIDE = 2**24
_METADATA = ipaddress.ip_address("169.254.169.254")


def local(data_dir: Path | None = None) -> list[Finding]:
    """Runs every check that needs only this machine. `data_dir`: a data folder instead of the configured one."""
    findings = [python(), *checkups_machine.python_build(), *checkups_machine.unknown_settings(os.environ)]
    try:
        settings: Settings = read_settings(_given(data_dir))
    except CliError as error:
        says = "; ".join(f"{d['field']}: {d['message']}" for d in error.details)
        return [*findings, Finding("settings", "bad", says, "docs/reference/settings.md lists every setting.")]
    findings.append(Finding("settings", "ok", "valid"))
    findings.append(data_folder(settings.data_dir))
    if not _may_enter(settings.data_dir):
        return findings  # nothing about the store can be said
    findings += data_files(settings.data_dir)
    findings += owner_key(data_dir)
    if settings.data_dir.is_dir():
        findings += [disk_space(settings.data_dir), sync_time(settings.data_dir)]
    findings += [checkups_machine.open_files(), checkups_machine.port(settings), checkups_machine.sandbox(settings)]
    findings.append(checkups_machine.request_rate(settings))
    findings += [*checkups_machine.addresses(settings), *checkups_machine.master_key_place(settings)]
    findings += checkups_store.store(settings)
    return findings + outbound(settings.outbound_allow)


def _given(data_dir: Path | None) -> dict[str, Path]:
    return {} if data_dir is None else {"data_dir": data_dir}


def server_of_folder(server: str, key: str | None, data_dir: Path | None = None) -> tuple[str, str | None]:
    """The address and key to ask with: what was given, else those of the server of the data folder."""
    try:
        settings: Settings = read_settings(_given(data_dir))
    except CliError:
        return find_server(server), key
    owner = settings.data_dir / key_file().name
    if key is None and owner.exists() and os.access(owner, os.R_OK):
        key = owner.read_text().strip()
    if server or server_file.read(settings.data_dir) is not None:
        return find_server(server, settings.data_dir), key
    return server_file.address_of(settings.host, settings.port), key


def remote(server: str, key: str | None) -> list[Finding]:
    """Runs every check that asks the server."""
    client = Client(server, find_key(key), timeout_s=10)
    findings = [reachable(client)]
    if findings[0].state != "bad":
        findings += [ready(client), key_works(client), clock(client)]
    return findings


def provider() -> list[Finding]:
    """Asks the identity provider of the settings."""
    try:
        return checkups_machine.sign_in(read_settings({}))
    except CliError:  # `local` says what is wrong with them
        return []


def chains(server: str, key: str | None) -> list[Finding]:
    """Checks chains and balances through a server that is ready."""
    return checkups_money.remote(Client(server, find_key(key), timeout_s=_CHAINS_S))


def python() -> Finding:
    """The Python version; unsupported versions cannot even start this command."""
    return Finding("python", "ok", f"{platform.python_version()}, dustrun {dustrun.__version__}")


def data_folder(folder: Path) -> Finding:
    """Whether the server can write its data folder and other users cannot read it."""
    mend = f"Give it to the user that runs the server: chown -R USER {folder}"
    try:
        is_there = folder.exists()
    except PermissionError:
        says = f'"{folder}" is in a folder that this user may not enter'
        return Finding("data folder", "bad", says, mend)
    if not is_there:
        return Finding("data folder", "warning", f'"{folder}" does not exist', "The first `dustrun serve` creates it.")
    if not os.access(folder, os.W_OK | os.X_OK):
        return Finding("data folder", "bad", f'"{folder}" is not writable', mend)
    if folder.stat().st_mode & 0o022:
        mend = f"chmod go-w {folder}"
        return Finding("data folder", "bad", f'other users can write to "{folder}"', mend)
    if folder.stat().st_mode & 0o044:
        mend = f"The database contains your workflows' data. Protect it: chmod 700 {folder}"
        return Finding("data folder", "warning", f'other users can read "{folder}"', mend)
    return Finding("data folder", "ok", f'"{folder}"')


def _may_enter(folder: Path) -> bool:
    try:
        return not folder.exists() or os.access(folder, os.R_OK | os.X_OK)
    except PermissionError:
        return False


def data_files(folder: Path) -> list[Finding]:
    """Whether other users can read a file of the data folder, should the folder be opened."""
    if not folder.is_dir():
        return []
    opened = sorted(file.name for file in folder.glob("dustrun.*") if file.stat().st_mode & 0o077)
    if not opened:
        return [Finding("data files", "ok", "only their owner can read them")]
    mend = f"The next start of the server closes them; or chmod 600 {folder}/dustrun.*"
    return [Finding("data files", "warning", f"other users can read {', '.join(opened)}", mend)]


def owner_key(data_dir: Path | None = None) -> list[Finding]:
    """Whether only the file's owner can read the owner key."""
    path = key_file() if data_dir is None else data_dir / key_file().name
    if not path.exists():
        return []
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        mend = f"chmod 600 {path}; if other users had access to this machine, create a new key and revoke this one."
        return [Finding("owner key", "bad", f'other users can read "{path}" (mode {mode:o})', mend)]
    return [Finding("owner key", "ok", f'"{path}", mode {mode:o}')]


def disk_space(folder: Path) -> Finding:
    """Whether the disk has enough free space."""
    free = shutil.disk_usage(folder).free
    says = f"{free / _GIB:.1f} GiB free"
    if free > _GIB:
        return Finding("disk space", "ok", says)
    state: Literal["warning", "bad"] = "bad" if free < _GIB // 10 else "warning"
    return Finding(
        "disk space",
        state,
        says,
        "Free some space; a full disk stops every run. The setting retention_days deletes old runs.",
    )


def sync_time(folder: Path) -> Finding:
    """How long the disk takes to sync a write; each step of a run waits for that."""
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        took = statistics.median(_sync_ms(file.fileno()) for _ in range(_SYNCS))
    says = f"a write reaches the disk in {took:.2f} ms"
    if took <= _SLOW_SYNC_MS:
        return Finding("disk sync", "ok", says)
    mend = "Every step of a run waits for this. Put the data folder on a local SSD, not on a network share."
    return Finding("disk sync", "warning", says, mend)


def _sync_ms(descriptor: int) -> float:
    started = time.perf_counter()
    os.write(descriptor, b"\0" * 4096)
    os.fsync(descriptor)
    return (time.perf_counter() - started) * 1000


def outbound(allowed: Iterable[str]) -> list[Finding]:
    """Whether the exceptions to the outbound guard are narrow enough."""
    findings = [_wide(entry, network) for entry, network in _networks(allowed)]
    bad = [finding for finding in findings if finding is not None]
    if bad:
        return bad
    said = ", ".join(allowed) or "workflows cannot reach private addresses"
    return [Finding("outbound", "ok", said)]


def _networks(allowed: Iterable[str]) -> Iterator[tuple[str, ipaddress.IPv4Network | ipaddress.IPv6Network]]:
    for entry in allowed:
        with contextlib.suppress(ValueError):
            yield entry, ipaddress.ip_network(entry, strict=False)


def _wide(entry: str, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> Finding | None:
    mend = "List hosts, or host:port, in DUSTRUN_OUTBOUND_ALLOW instead."
    if network.version == _METADATA.version and _METADATA in network:
        says = f"{entry} lets workflows read the cloud metadata service, which hands out credentials"
        return Finding("outbound", "bad", says, mend)
    if network.num_addresses >= _WIDE:
        return Finding("outbound", "warning", f"{entry} allows {network.num_addresses} addresses", mend)
    return None


def reachable(client: Client) -> Finding:
    """Whether a Dustrun server answers."""
    return _asking("server", lambda: client.get("/healthz"), f"{client.server} answers")


def ready(client: Client) -> Finding:
    """Whether the server accepts work."""
    return _asking("ready", lambda: client.get("/readyz"), "the server accepts work")


def key_works(client: Client) -> Finding:
    """Whether the server accepts the API key that commands would use."""
    return _asking("key", lambda: client.get("/v1/workflows", limit=1), "the server accepts it")


def _asking(name: str, ask: Callable[[], object], well: str) -> Finding:
    try:
        ask()
    except CliError as error:
        return Finding(name, "bad", error.message, error.hint)
    return Finding(name, "ok", well)


def clock(client: Client) -> Finding:
    """Whether the clocks of the clocks of this machine and the server agree."""
    response, connection = client.open("GET", "/healthz")
    with contextlib.closing(connection):
        response.read()
    stamp = response.getheader("Date")
    if stamp is None:
        return Finding("clock", "ok", "the server does not report its time")
    apart = abs(time.time() - email.utils.parsedate_to_datetime(stamp).timestamp())
    if apart <= 5:
        return Finding("clock", "ok", "the clocks of this machine and the server agree")
    mend = "Turn on time synchronisation (timedatectl set-ntp true); schedules and waits use the server's clock."
    return Finding("clock", "warning", f"the clocks of this machine and the server differ by {apart:.0f} s", mend)
