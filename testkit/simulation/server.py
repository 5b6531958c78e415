"""The server's lives: started from its files, killed at any step, and started again; and how callers reach it."""

from __future__ import annotations

import asyncio
import io
import json
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, Final

from dustrun import log
from dustrun.app import compose
from dustrun.storage.backup.copy_detection import say_moved
from dustrun.storage.db.database import Database
from testkit.composition import Given
from testkit.simulation import disk
from testkit.simulation.loop import Loop
from testkit.simulation.network import Host, Network

_DOWN_S: Final = (0.5, 3.0, 30.0, 600.0)
_PATIENCE_S: Final = 60.0
_MOST_UNSYNCED: Final = 5
_AGAIN_S: Final = 5.0
"""After which a server that could not start is started again."""
Json = dict[str, Any]


class LostAnswer(Exception):
    """The caller got no answer: the request may have arrived, or not."""


class Server:
    """One store and the process that serves it. `front` is the callers' link to it."""

    def __init__(self, loop: Loop, network: Network, folder: Path, chance: random.Random, **settings: Any) -> None:
        self.loop = loop
        self.network = network
        self.folder = folder
        self.front = Host("server", _nobody)
        self.counts: Counter[str] = Counter()
        self.troubles: list[str] = []
        """What must never happen, with whatever faults: a server that does not start, a defect in the log."""
        self.answers: list[bytes] = []
        self.log = io.StringIO()
        self.is_up = asyncio.Event()
        self.deaths = 0
        self.open_store: Callable[..., Database] = Database
        self.is_in_trouble: Callable[[], bool] = lambda: False
        """Whether its disk is, so that it need not start."""

        self._chance = chance
        self._settings = settings
        self._composed: Any = None
        self._open: set[asyncio.Future[Any]] = set()
        self._graves: list[Any] = []
        self._stopping = self._ended = asyncio.Event()
        self._life: asyncio.Task[None] | None = None
        loop.on_kill = self._died
        loop.store_mark = lambda: disk.mark(self.data)
        log.set_up(as_json=True, level="warning", stream=self.log)

    @property
    def data(self) -> Path:
        """The folder of the store."""
        return self.folder / "data"

    def start(self) -> None:
        """Begins a life."""
        self.loop.say("the server starts")
        self.loop.serves = True
        self._stopping, self._ended = asyncio.Event(), asyncio.Event()
        self._life = self.loop.inside(self._live())

    def _inside(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """A task of it."""
        return self.loop.inside(work)

    async def _live(self) -> None:
        settings = Given(data_dir=self.data, master_key_file=self.folder / "key", log_level="warning", **self._settings)
        stopping = self._stopping
        try:
            if (self.data / "dustrun.db").exists():
                say_moved(settings)  # its files were copied, which the simulation answers for
            async with compose(settings, self.open_store) as self._composed:
                self.is_up.set()
                await stopping.wait()
                self.is_up.clear()
                await self._composed.stop()
        except Exception as error:
            if self.is_in_trouble():
                self.loop.say(f"the server does not start: {error!r}")
                self.loop.outside(self._start_again(_AGAIN_S))
            else:
                self.troubles.append(f"the server failed at {self.loop.now:.3f} s: {error!r}")
        self._composed = None
        self._ended.set()

    async def stop(self) -> bool:
        """An orderly end, as by SIGTERM; False if the server was killed in the middle of it."""
        await self.is_up.wait()
        deaths = self.deaths
        self._stopping.set()
        await self._ended.wait()
        self.counts["orderly stops"] += self.deaths == deaths
        return self.deaths == deaths

    async def restart(self) -> None:
        """An orderly restart."""
        if await self.stop():  # who was killed starts again anyway
            self._cut_off()
            self.start()

    def _died(self, writing: bool) -> None:
        self.counts["kills"] += 1
        self.deaths += 1
        unsynced = self._unsynced(writing)
        self._ended.set()
        self._graves.append((self._composed, self._life, self._open))
        self._composed = None
        self.is_up.clear()
        self._cut_off()
        disk.move_on(self.data, self.folder / f"dead{self.loop.lives}")
        if unsynced:
            fate = disk.fail_power(self.data, self._chance, unsynced)
            self.loop.say(f"the power fails; the last {unsynced} commits: {fate}")
            self.counts[f"commits in sync: {fate}"] += 1
        if self._life is not None:
            self.loop.outside(self._start_again(self._chance.choice(_DOWN_S)))

    def _unsynced(self, writing: bool) -> int:
        """How many commits a failure of the power may take: the one in sync, and more if the store is not asked to sync
        each (SQLite loses none with `synchronous=FULL`). Half of the kills are failures of the power."""
        fails = writing or self._chance.random() < 0.5
        if not fails or self._composed is None:
            return int(writing)
        connection = self._composed.app.parts.database.open_writer()
        is_full = connection.execute("PRAGMA synchronous").fetchone()[0] == 2
        return int(writing) if is_full else self._chance.randint(1, _MOST_UNSYNCED)

    async def _start_again(self, after_s: float) -> None:
        await asyncio.sleep(after_s)
        self.start()

    def _cut_off(self) -> None:
        callers, self._open = self._open, set()
        for caller in callers:
            if not caller.done():
                caller.set_exception(LostAnswer())

    # --- callers ---
    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        heard: Callable[[bytes], None] | None = None,
    ) -> tuple[int, Any]:
        """Sends one request; status and JSON. `heard` gets the parts of an answer that streams. Raises `LostAnswer`."""
        network, fate = self.network, self.network.fate(self.front)
        await asyncio.sleep(network.way_s(self.front))
        if fate in ("lost", "refused", "silent") or not self.is_up.is_set():
            raise LostAnswer
        if fate == "twice":
            self._serve(method, path, body, headers or {}, None).add_done_callback(_forget)
        answer = self._serve(method, path, body, headers or {}, heard)
        try:
            async with asyncio.timeout(None if heard is not None else _PATIENCE_S):
                status, raw = await answer
        except TimeoutError:
            raise LostAnswer from None
        finally:
            self._open.discard(answer)
        await asyncio.sleep(network.way_s(self.front))
        if fate in ("reset", "cut"):
            raise LostAnswer
        self.answers.append(raw)
        self.loop.say(f"{method} {path} is answered {status}")
        if status >= 500 and status != 503:
            self.troubles.append(f"{method} {path} was answered {status}: {raw[:300]!r}")
        return status, json.loads(raw) if raw and heard is None else None

    def _serve(self, method: str, path: str, body: Any, headers: Any, heard: Any) -> asyncio.Future[tuple[int, bytes]]:
        answer: asyncio.Future[tuple[int, bytes]] = self.loop.create_future()
        self._open.add(answer)
        raw = b"" if body is None else json.dumps(body).encode()
        given = {"host": "x", "content-type": "application/json", "content-length": str(len(raw)), **headers}
        plain, _, query = path.partition("?")
        scope = {
            **{"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "path": plain},
            **{"raw_path": plain.encode(), "query_string": query.encode(), "scheme": "http", "root_path": ""},
            "headers": [(name.encode(), value.encode()) for name, value in given.items()],
            **{"client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8080), "state": {}},
        }
        coming = [{"type": "http.request", "body": raw, "more_body": False}]
        found: Json = {"status": 0, "body": b""}

        async def receive() -> Any:
            return coming.pop() if coming else await self.loop.create_future()

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                found["status"] = message["status"]
            elif heard is not None and message.get("body"):
                heard(message["body"])
            else:
                found["body"] += message.get("body", b"")

        async def served(app: Any) -> None:
            try:
                await app(scope, receive, send)
            except Exception as error:
                self.troubles.append(f"{method} {path} failed: {error!r}")
            if not answer.done():
                answer.set_result((found["status"], found["body"]))

        self._inside(served(self._composed.app))
        return answer


def _forget(done: asyncio.Future[Any]) -> None:
    if not done.cancelled():
        done.exception()


def _nobody(_request: Any) -> tuple[int, bytes]:
    return 500, b""
