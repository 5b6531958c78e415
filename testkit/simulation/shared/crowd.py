"""Several servers on one store, for callers who reach any of them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from dustrun.app import compose
from dustrun.storage.backup.copy_detection import say_moved
from testkit.composition import Given
from testkit.simulation.network import Network
from testkit.simulation.server import LostAnswer, Server
from testkit.simulation.shared.loop import SharedLoop
from testkit.simulation.shared.store import Notifications, SharedStore, Way

_DOWN_S: Final = (0.5, 3.0, 12.0, 120.0)
_FROZEN_S: Final = (3.0, 12.0, 60.0, 60.0)
"""How long a server stands still, or is cut off: the others take over after eight seconds."""
_MOST_SKEW_S: Final = 0.4


class Member(Server):
    """One of them."""

    def __init__(self, who: int, crowd: Crowd, *given: Any, **settings: Any) -> None:
        super().__init__(*given, **settings)
        self.who = who
        self.way = Way()
        self._crowd = crowd

    def start(self) -> None:
        """Begins a life."""
        self.loop.say(f"server {self.who} starts")
        self._crowd.schedule.serving.add(self.who)
        self._stopping, self._ended = asyncio.Event(), asyncio.Event()
        self._life = self._inside(self._live())

    def _inside(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        return self._crowd.schedule.inside_of(self.who, work)

    async def _live(self) -> None:
        given = Given(data_dir=self.data, master_key_file=self.folder / "key", log_level="warning", **self._settings)
        settings = given.model_copy(update={"shared": True})  # past the check that refuses it for SQLite
        stopping, ended = self._stopping, self._ended
        try:
            if self._crowd.is_new:
                self._crowd.is_new = False
                say_moved(settings)
            open_store, open_channel = (
                partial(SharedStore, self.way, self._crowd.now_ms),
                self._crowd.notifications.open,
            )
            async with compose(settings, open_store, open_channel) as self._composed:
                self.is_up.set()
                await stopping.wait()
                self.is_up.clear()
                await self._composed.stop()
        except Exception as error:
            self.loop.say(f"server {self.who} does not start: {error!r}")
            if self._crowd.has_cut:
                self.loop.outside(self._start_again(3.0))
            else:
                self.troubles.append(f"server {self.who} failed at {self.loop.now:.3f} s: {error!r}")
        self._crowd.schedule.serving.discard(self.who)
        self._composed = None
        ended.set()

    def die(self) -> None:
        """It is killed: what it has written stays."""
        self.counts["kills"] += 1
        self.deaths += 1
        self.way.is_cut = False
        self._ended.set()
        self._graves.append((self._composed, self._life, self._open))
        self._composed = None
        self.is_up.clear()
        self._cut_off()
        self.loop.outside(self._start_again(self._chance.choice(_DOWN_S)))


class Crowd(Server):
    """All of them, as one server that callers reach."""

    def __init__(
        self,
        count: int,
        now_ms: Callable[[], int],
        loop: SharedLoop,
        network: Network,
        folder: Path,
        chance: random.Random,
        **settings: Any,
    ) -> None:
        super().__init__(loop, network, folder, chance, **settings)
        self.schedule = loop
        self.now_ms = now_ms
        self.is_new = True
        self.has_cut = False
        """Whether a server was ever cut off from the store, and may say so."""

        self.notifications = Notifications(loop, random.Random(chance.random()))
        self.members = [Member(who, self, loop, network, folder, chance, **settings) for who in range(1, count + 1)]
        for one in self.members:
            one.front, one.counts, one.troubles, one.answers = self.front, self.counts, self.troubles, self.answers
            one.log = self.members[-1].log
            loop.skews[one.who] = round(chance.uniform(-_MOST_SKEW_S, _MOST_SKEW_S), 3)
        self.log = self.members[-1].log
        loop.on_kill = lambda _writing: None
        loop.on_death = lambda who: self.members[who - 1].die()
        loop.store_mark = bytes

    def start(self) -> None:
        """The first begins at once, the others a little later."""
        for one in self.members:
            if one.who == 1:
                one.start()
            else:
                self.loop.outside(one._start_again(self._chance.random() * 5))

    async def stop(self) -> bool:
        """All stop, one after another."""
        for one in self.members:
            self.schedule.thaw(one.who)
            one.way.is_cut = False
        for one in self.members:
            await one.stop()
        return True

    async def restart(self) -> None:
        """One of them stops and starts in an orderly way."""
        one = self._chance.choice(self.members)
        if not self.schedule.is_frozen(one.who):
            await one.restart()

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        heard: Callable[[bytes], None] | None = None,
    ) -> tuple[int, Any]:
        """Asks any server that is up, as a balancer does that has not noticed which of them stand still."""
        up = [one for one in self.members if one.is_up.is_set()]
        if not up:
            await asyncio.sleep(self.network.way_s(self.front))
            raise LostAnswer
        return await self._chance.choice(up).ask(method, path, body, headers, heard)

    async def freeze(self, at: float) -> None:
        """A server stops for a while, and goes on as if nothing had been."""
        await asyncio.sleep(at)
        who, lasts_s = self._chance.choice(self.members).who, self._chance.choice(_FROZEN_S)
        if self.schedule.freeze(who):
            self.counts["servers that stood still"] += 1
            await asyncio.sleep(lasts_s)
            self.schedule.thaw(who)

    async def cut_off(self, at: float) -> None:
        """A server cannot reach the store for a while."""
        await asyncio.sleep(at)
        one, lasts_s = self._chance.choice(self.members), self._chance.choice(_FROZEN_S)
        self.loop.say(f"server {one.who} cannot reach the store for {lasts_s:g} s")
        self.counts["servers cut off"] += 1
        self.has_cut = one.way.is_cut = True
        await asyncio.sleep(lasts_s)
        one.way.is_cut = False
