"""`dustrun doctor`: checks of the machine: setting names, limits, ports, sandbox, master key."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import difflib
import http.client
import os
import re
import resource
import socket
import sys
import sysconfig
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from dustrun.chain.networks import NetworkFileError, load_networks
from dustrun.cli.doctor.finding import Finding
from dustrun.errors import DustrunError
from dustrun.outbound.configured import ConfiguredAddresses
from dustrun.sandbox import Sandbox, SandboxLimits, missing_layers
from dustrun.settings import Settings
from dustrun.storage.db import server_file
from dustrun.storage.secrets.master_key import MasterKeyFile

# Read by the CLI, not by the server.
_OF_COMMANDS = frozenset({"DUSTRUN_SERVER", "DUSTRUN_API_KEY"})
_FEW_FILES = 4096
_TOO_FEW_FILES = 512
_BUSY_RATE = 1000
_ASK_S = 2.0
# Two functions of one source file each: Python's own tests, which train the compiler, call only the first of a pair.
_HOT_AND_COLD = (("PyObject_Repr", "PyObject_Print"), ("PyList_Append", "PyList_Reverse"))
_LARGER_THAN_A_FILE = 2**18
_PLACEHOLDER = re.compile(r"\{\w+\}")
_HERE = ("127.0.0.1", "::1", "localhost")


def unknown_settings(environment: Mapping[str, str]) -> list[Finding]:
    """Environment variables that look like settings but are not: such a typo silently leaves the default."""
    known = {f"DUSTRUN_{name.upper()}" for name in Settings.model_fields} | _OF_COMMANDS
    given = sorted(name for name in environment if name.upper().startswith("DUSTRUN_") and name.upper() not in known)
    return [_unknown(name, known) for name in given]


def _unknown(name: str, known: Iterable[str]) -> Finding:
    near = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.6)
    guess = f"Did you mean {near[0]}? " if near else ""
    mend = f"{guess}docs/reference/settings.md lists every setting."
    return Finding("environment", "warning", f"{name} is set, but there is no such setting", mend)


def python_build() -> list[Finding]:
    """Whether this Python was built with profile-guided optimization; without it, it needs about half as long again."""
    arguments = str(sysconfig.get_config_var("CONFIG_ARGS") or "")
    if is_optimized(arguments, [_distance(*names) for names in _HOT_AND_COLD]):
        return []
    mend = "Use your system's Python (PYTHON=/usr/bin/python3 scripts/setup), or build with --enable-optimizations."
    says = f"{sys.executable} was built without profile-guided optimization and is slower than it could be"
    return [Finding("python build", "warning", says, mend)]


def is_optimized(arguments: str, distances: Iterable[int]) -> bool:
    """Whether a Python was built with profile-guided optimization, by the arguments of its `configure` and its code.

    Debian's arguments do not name it, so the machine code decides there: the optimizer moves functions that its
    training did not call away from those it did. Otherwise functions of one file stay within some 10 KiB.
    """
    return "--enable-optimizations" in arguments or max(distances) > _LARGER_THAN_A_FILE


def _distance(one: str, other: str) -> int:
    """How many bytes of code lie between two functions of this Python."""
    first, second = (ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value for name in (one, other))
    return abs((first or 0) - (second or 0))


def open_files() -> Finding:
    """Whether the limit on open files is high enough: each stream and each client connection needs one."""
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    says = f"a process may open {allowed} files and connections"
    if allowed >= _FEW_FILES or allowed == resource.RLIM_INFINITY:
        return Finding("open files", "ok", says)
    mend = f"Each stream and client needs one. Raise the limit where the server starts: ulimit -n {min(65_536, most)}."
    return Finding("open files", "bad" if allowed < _TOO_FEW_FILES else "warning", says, mend)


def request_rate(settings: Settings) -> Finding:
    """Whether the limit of requests leaves room for a busy organisation."""
    most = settings.rate_limit_per_second
    webhook, link = settings.requests_per_webhook, settings.requests_per_link
    of_others = f"for each address of a webhook, {link:g} for each public link, with bursts of twice that"
    if most == 0:
        return Finding("request rate", "ok", f"not limited for keys, {webhook:g} a second {of_others}")
    says = f"{most} requests a second for all keys of an organisation together, {webhook:g} {of_others}"
    if most >= _BUSY_RATE:
        return Finding("request rate", "ok", says)
    mend = "What comes beyond is answered 429, which a busy organisation meets: raise DUSTRUN_RATE_LIMIT_PER_SECOND."
    return Finding("request rate", "warning", says, mend)


def port(settings: Settings) -> Finding:
    """Whether the server's port is free or in use by a Dustrun server."""
    place = f"{settings.host}:{settings.port}"
    if settings.port == 0:
        return Finding("port", "ok", "any free one")
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with contextlib.closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            return _taken(settings, place, error)
    return Finding("port", "ok", f"{place} is free; no server is running there")


def _taken(settings: Settings, place: str, error: OSError) -> Finding:
    if answers_as_ours(settings):
        return Finding("port", "ok", f"a Dustrun server is using {place}")
    mend = "Stop the program that uses it, or choose another port: --port, DUSTRUN_PORT."
    return Finding("port", "bad", f"a server cannot listen on {place} ({error.strerror})", mend)


def answers_as_ours(settings: Settings) -> bool:
    """Whether a Dustrun server answers at the address in the settings, or at the default address."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 - compared, not bound
    asked = urlsplit(os.environ.get("DUSTRUN_SERVER", ""))
    places = [(host, settings.port)]
    running = server_file.read(settings.data_dir)
    if running is not None:
        own = urlsplit(running.address)
        places.append((own.hostname or host, own.port or settings.port))
    if asked.hostname in _HERE and asked.port is not None:
        places.append((asked.hostname, asked.port))
    return any(_answers(*place) for place in places)


def _answers(host: str, port: int) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=_ASK_S)
    try:
        connection.request("GET", "/healthz")
        response = connection.getresponse()
        return response.status == 200 and b'"requestId"' in response.read(4096)
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def addresses(settings: Settings) -> list[Finding]:
    """Whether the outbound guard lets the server reach the chain endpoints and the price source."""
    try:
        networks = load_networks(settings.networks_dir, settings.chain_endpoints)
    except NetworkFileError as error:
        return [Finding("endpoints", "bad", error.message, "docs/guides/chains.md describes these files.")]
    urls = [url for network in networks.values() for url in network.endpoints]
    urls += [_PLACEHOLDER.sub("0", settings.price_url)] if settings.price_url else []
    guarded = ConfiguredAddresses(settings.outbound_allow, urls)
    refused = [refusal for url in urls if (refusal := guarded.find_refusal(url)) is not None]
    mend = "Correct DUSTRUN_CHAIN_ENDPOINTS, networks_dir or DUSTRUN_PRICE_URL; see docs/guides/outbound-guard.md."
    bad = [Finding("endpoints", "bad", refusal, mend) for refusal in refused]
    return bad or [Finding("endpoints", "ok", f"the outbound guard refuses none of {len(urls)}")]


def sign_in(settings: Settings) -> list[Finding]:
    """Whether people can sign in with the identity provider, if one is set."""
    if settings.sign_in_issuer is None:
        return []
    try:
        trouble = asyncio.run(_trouble_of_provider(settings))
    except DustrunError as error:  # of the settings
        trouble = error.message
    if trouble is None:
        says = f"{settings.sign_in_issuer} answers; it must know {settings.base_url()}/sign-in as redirect URI"
        return [Finding("sign-in", "ok", says)]
    mend = "People cannot sign in with it; keys and links work. See docs/guides/sign-in.md."
    return [Finding("sign-in", "bad", f"{settings.sign_in_issuer}: {trouble}", mend)]


async def _trouble_of_provider(settings: Settings) -> str | None:
    from dustrun.outbound.client import OutboundClient  # slow import
    from dustrun.services.access.oidc.provider import Provider  # slow import

    limits, issuer = (settings.outbound_max_bytes, settings.max_parallel_per_host), str(settings.sign_in_issuer)
    client = OutboundClient(
        settings.outbound_allow, *limits, max_body_bytes=settings.outbound_max_body_bytes, named=[issuer]
    )
    await client.start()
    try:
        return await Provider(settings, client).find_trouble()
    finally:
        await client.close()


def sandbox(settings: Settings, worker: Callable[[], Sequence[str]] | None = None) -> Finding:
    """Whether this machine supports every isolation layer of the script sandbox."""
    try:
        layers = asyncio.run(_layers(Sandbox(SandboxLimits.of(settings), worker)))
    except (DustrunError, OSError) as error:
        mend = "code-transform nodes cannot run; see docs/guides/code-transform.md."
        return Finding("sandbox", "bad", f"the sandbox process cannot be started: {error}", mend)
    missing = missing_layers(layers)
    if not missing:
        return Finding("sandbox", "ok", f"{len(layers)} layers: {', '.join(sorted(layers))}")
    mend = "Scripts still run, with weaker isolation; let only people you trust write them."
    return Finding("sandbox", "warning", f"missing: {', '.join(missing)}", mend)


async def _layers(box: Sandbox) -> Mapping[str, str]:
    try:
        return await box.describe()
    finally:
        await box.stop()


def master_key_place(settings: Settings) -> list[Finding]:
    """Whether the master key is outside the data folder and readable only by its owner."""
    file = MasterKeyFile(settings.master_key_file)
    if not file.path.exists():
        return []
    try:
        file.read()
    except DustrunError as error:
        return [Finding("master key", "bad", error.message, "No secret can be used until then.")]
    if _is_inside(file.path, settings.data_dir):
        mend = "Move it elsewhere and set DUSTRUN_MASTER_KEY_FILE; a copy of the data would include its key."
        return [Finding("master key", "warning", f'"{file.path}" is inside the data folder', mend)]
    return [Finding("master key", "ok", f'"{file.path}"')]


def _is_inside(path: Path, folder: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))
