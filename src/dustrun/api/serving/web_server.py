"""uvicorn with our HTTP protocol, and a shutdown that open streams cannot delay."""

from __future__ import annotations

import contextlib
import functools
import math
import socket
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from dustrun.api.serving.connections import Connections
from dustrun.api.serving.http import HttpProtocol
from dustrun.settings import Settings


def listen(settings: Settings) -> socket.socket:
    """Binds the configured address; port 0 means any free port."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((settings.host, settings.port))
    listener.set_inheritable(False)
    return listener


def make_web_server(
    app: ASGIApp, settings: Settings, begin_stop: Callable[[], None], on_ready: Callable[[], None] = lambda: None
) -> WebServer:
    """Makes a uvicorn server for the application; it calls `on_ready()` once it listens, and `begin_stop()` first when
    it stops."""
    config = uvicorn.Config(
        app,
        http=functools.partial(HttpProtocol, Connections.of(settings)),  # type: ignore[arg-type]
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        timeout_keep_alive=math.ceil(settings.idle_timeout_s),
        timeout_graceful_shutdown=int(settings.shutdown_grace_s) + 1,
        server_header=False,
        proxy_headers=False,
    )
    return WebServer(config, begin_stop, on_ready)


class WebServer(uvicorn.Server):
    """A uvicorn server that ends streams first when it stops: an open stream would block the graceful shutdown.

    After shutdown uvicorn would raise the signal again. That would end the process before running nodes have had their
    grace period, and an ordinary restart would leave their effects uncertain."""

    def __init__(self, config: uvicorn.Config, begin_stop: Callable[[], None], on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._begin_stop = begin_stop
        self._on_ready = on_ready
        self.has_given_way = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts to listen, then calls `on_ready`."""
        await super().startup(sockets)
        self._on_ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handles signals while it serves, and raises none afterwards."""
        with super().capture_signals():
            yield
            self._captured_signals.clear()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stops. Aborts connections whose client reads nothing, since they would use up the grace period."""
        for connection in list(self.server_state.connections):
            flow, transport = getattr(connection, "flow", None), getattr(connection, "transport", None)
            if flow is not None and flow.write_paused and transport is not None:
                transport.abort()
        await super().shutdown(sockets)

    def give_way(self) -> None:
        """Stops because another server uses the store: this server's memory is out of date."""
        self.has_given_way = True
        self._begin_stop()
        self.should_exit = True

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Ends streams and refuses new runs, so that callers move to the next server; then stops."""
        self._begin_stop()
        super().handle_exit(sig, frame)
