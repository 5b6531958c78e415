"""One schedule for several servers, each of which can die alone, or stand still for a while and go on.

Every step has an owner, by a mark in its context: a server's number, or 0 for the outside. What product code begins in
an empty context gets the mark of the step that began it.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, Final

from testkit.simulation.loop import Loop

_MOST_STEPS: Final = 200_000
Life = tuple[int, int]
"""A server, and how often it has died before: nothing of a life that is over runs again."""
_OUTSIDE: Final[Life] = (0, 0)
_owner: contextvars.ContextVar[Life] = contextvars.ContextVar("owner")


class SharedLoop(Loop):
    """`serving`: the servers that live. `skews`: by how many seconds a server's clock is ahead of the store's."""

    def __init__(self, seed: int, *, shuffles: bool = False) -> None:
        super().__init__(seed, shuffles=shuffles)
        self.most_steps = _MOST_STEPS
        self.current = 0
        self.serving: set[int] = set()
        self.skews: dict[int, float] = {}
        self.on_death: Callable[[int], None] = lambda _who: None
        self._deaths: Counter[int] = Counter()
        self._ice: dict[int, list[asyncio.Handle]] = {}

    def skew_s(self) -> float:
        """How far the clock of whoever reads it is ahead."""
        return self.skews.get(self.current, 0.0)

    # --- whose a step is ---
    def _marked(self, context: contextvars.Context | None) -> contextvars.Context:
        context = context if context is not None else contextvars.copy_context()
        if _owner not in context and not self._is_of_outside(context):
            context.run(_owner.set, self.life())
        return context

    def _call_soon(self, callback: Any, args: Any, context: Any) -> asyncio.Handle:
        made: asyncio.Handle = super()._call_soon(callback, args, self._marked(context))  # type: ignore[misc]
        return made

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        """Schedules for a virtual time."""
        return super().call_at(when, callback, *args, context=self._marked(context))

    def _owner_of(self, handle: Any) -> Life:
        context = handle._context
        return _OUTSIDE if self._is_of_outside(context) else context.get(_owner, _OUTSIDE)

    def inside_of(self, who: int, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """A task of a server."""
        return self.create_task(work, context=self.context_of((who, self._deaths[who])))

    def life(self) -> Life:
        """The server whose step this is, and which of its lives it lives."""
        return self.current, self._deaths[self.current]

    def is_alive(self, life: Life) -> bool:
        """Whether it still does."""
        who, deaths = life
        return self._deaths[who] == deaths

    def context_of(self, life: Life) -> contextvars.Context:
        """A context for a step of that server."""
        context = contextvars.Context()
        context.run(_owner.set, life)
        return context

    def _step(self, handle: asyncio.Handle) -> None:
        life = self._owner_of(handle)
        who = life[0]
        if not self.is_alive(life):
            self._dead.append(handle)
            return
        if who in self._ice:
            self._ice[who].append(handle)
            return
        self.current = who
        super()._step(handle)

    # --- servers that stand still, or die ---
    def freeze(self, who: int) -> bool:
        """Nothing of a server runs until it thaws; it knows nothing of that. False if it does not live."""
        if who not in self.serving or who in self._ice:
            return False
        self._ice[who] = []
        self.say(f"server {who} stands still")
        return True

    def thaw(self, who: int) -> None:
        """A server goes on where it was."""
        if who in self._ice:
            self.say(f"server {who} goes on")
            self._ready.extend(self._ice.pop(who))

    def is_frozen(self, who: int) -> bool:
        """Whether it stands still."""
        return who in self._ice

    def kill_after(self, points: int, at: str = "") -> None:
        """Whichever server is at the last of so many points dies there; any of them at once for 0."""
        if points:
            super().kill_after(points, at)
        elif self.serving:
            self._kill_one(self.chance.choice(sorted(self.serving)))

    def point(self, name: str, *, writing: bool = False, life: Any = None) -> bool:
        """A place where a kill hurts most: of the server whose step this is, or whose `life` is meant."""
        self._aimed = life[0] if life is not None else self.current
        return super().point(name, writing=writing, life=life)

    def _kill(self, writing: bool) -> bool:
        return self._kill_one(self._aimed)

    def _kill_one(self, who: int) -> bool:
        if who not in self.serving:
            return False
        self.serving.discard(who)
        self._deaths[who] += 1
        self.lives += 1
        self.say(f"server {who} is killed")
        mine = [*self._ready, *(entry[2] for entry in self._timers), *self._ice.pop(who, ())]
        self._dead.append((mine, asyncio.all_tasks(self)))
        self._timers[:] = [entry for entry in self._timers if self.is_alive(self._owner_of(entry[2]))]
        heapq.heapify(self._timers)
        self.on_death(who)
        return True
