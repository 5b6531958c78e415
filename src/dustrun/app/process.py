"""The server as a process: event loop, listening socket, signals."""

from __future__ import annotations

import _sqlite3
import asyncio
import contextlib
import ctypes
import gc
import os
import sys
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Final

import uvloop

from dustrun import log
from dustrun.api.serving.web_server import listen, make_web_server
from dustrun.app.composition import compose
from dustrun.errors import Conflict, Temporary
from dustrun.sandbox import Sandbox, SandboxLimits, missing_layers
from dustrun.settings import Settings
from dustrun.storage.db import server_file
from dustrun.storage.secrets.process_hardening import shield_process

# What is configured in the SQLite library itself, for the whole process.


_CONFIG_MEMSTATUS: Final = 9  # https://sqlite.org/c3ref/c_config_covering_index_scan.html


def stop_counting_memory() -> None:
    """Switches off SQLite's count of the memory that it uses, which nobody reads: for it, each allocation and release
    locks a mutex (measured: 3 % of the instructions of a run with three writes).

    Call it before the process opens its first connection. Where Python's module hides the library's functions, as one
    that contains the library may, nothing changes."""
    if sys.platform != "linux":
        return  # elsewhere, ctypes may pass arguments of functions like this one in the wrong place
    library = ctypes.CDLL(_sqlite3.__file__) if hasattr(_sqlite3, "__file__") else ctypes.CDLL(None)
    if not hasattr(library, "sqlite3_config") or library.sqlite3_shutdown() != 0:
        return
    library.sqlite3_config(_CONFIG_MEMSTATUS, ctypes.c_int(0))
    library.sqlite3_initialize()


_logger = log.get("dustrun.sandbox")
_Ready = Callable[[str, Path | None], None]


def serve(settings: Settings, ready: _Ready | None = None) -> None:
    """Serves until SIGINT or SIGTERM. Once the server answers, calls `ready` with its address and, at the first start,
    the path of the new owner key."""
    log.set_up(as_json=settings.log_format == "json", level=settings.log_level)
    shield_process()
    stop_counting_memory()
    os.umask(0o077)  # whatever the server writes is for its own user only
    with contextlib.suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, ready))


async def _serve(settings: Settings, ready: _Ready | None) -> None:
    listener = listen(settings)
    host, port = listener.getsockname()[:2]
    if settings.port == 0:
        settings = settings.model_copy(update={"port": port})
    async with _watched_sandbox(settings), compose(settings) as server:
        address = server_file.address_of(host, port)
        told = partial(_announce, settings, address, ready, server.owner_key_path)
        web = make_web_server(server.app, settings, server.begin_stop, told)
        assert server.app.parts.catalogue_built  # which begins to build it
        spare_the_collector()
        server.writer.on_taken.append(web.give_way)
        server.trigger_host.on_many_armed.append(gc.freeze)  # they stay as well
        try:
            await web.serve(sockets=[listener])
        finally:
            server_file.remove(settings.data_dir, os.getpid())
    if web.has_given_way:
        raise Conflict("Another server took over this store while this one could not reach it; this one has stopped.")


@contextlib.asynccontextmanager
async def _watched_sandbox(settings: Settings) -> AsyncIterator[None]:
    """Checks the sandbox beside the start, or before it if the server must not start without all layers."""
    if "engine" not in settings.roles:  # it runs no scripts
        yield
        return
    checking = asyncio.create_task(check_sandbox(Sandbox(SandboxLimits.of(settings)), settings.sandbox_require_all))
    if settings.sandbox_require_all:
        await checking
    try:
        yield
    finally:
        checking.cancel()
        (outcome,) = await asyncio.gather(checking, return_exceptions=True)
        if isinstance(outcome, Exception):
            _logger.error("the sandbox could not be checked", error=repr(outcome))


async def check_sandbox(sandbox: Sandbox, must_have_all: bool) -> None:
    """Logs each layer that this machine lacks, and stops the sandbox. Raises `Conflict` if all are required."""
    try:
        missing = missing_layers(await sandbox.describe())
    except Temporary as error:
        missing = [f"all ({error.message.removesuffix('.')})"]
    finally:
        await sandbox.stop()
    if missing and must_have_all:
        raise Conflict(
            f"DUSTRUN_SANDBOX_REQUIRE_ALL is set, and layers of the sandbox are missing: {', '.join(missing)}. "
            "Allow them on this machine (docs/guides/code-transform.md says what each needs), or unset the setting and "
            "let only people you trust write scripts."
        )
    if missing:
        _logger.warning("layers of the script sandbox are missing", layers=missing)


def _announce(settings: Settings, address: str, ready: _Ready | None, owner_key_path: Path | None) -> None:
    server_file.write(settings.data_dir, server_file.RunningServer(address, os.getpid()))
    if ready is not None:
        ready(address, owner_key_path)


def spare_the_collector() -> None:
    """Exempts the objects made at start-up from garbage collection: they live as long as the process.

    Measured: saves a tenth of the run call's processor time and a seventh of the start's."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    gc.enable()
