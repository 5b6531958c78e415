"""An event loop with virtual time and a seeded order, where threads are steps and a server can be killed at any step.

What belongs to the outside world (callers, senders, chains) carries a mark in its context; everything else is the
server's. A kill takes the server's steps off the schedule: nothing of it runs again, not even its cleaning up.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import heapq
import random
import socket
import threading
import zlib
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterator
from functools import cache
from typing import Any, Final, Never

from dustrun.storage.db.group_commit import GroupOutcome

_MOST_STEPS: Final = 20_000
_COUNTED: Final = 1_000
_WITHIN_S: Final = 60.0
"""Worlds take up to 3,000 steps in this time; whoever asks without end takes many more."""
_LATENCIES: Final = (0.0, 0.0002, 0.001, 0.003, 0.02)
_of_outside: contextvars.ContextVar[bool] = contextvars.ContextVar("of_outside", default=False)
OUTSIDE: Final = contextvars.copy_context()
OUTSIDE.run(_of_outside.set, True)


class Hang(Exception):
    """Nothing can ever run again, or virtual time does not advance; names the tasks."""


class _Future(asyncio.Future[Any]):
    """Its place in sets does not come from its address, which is another one in each process."""

    def __init__(self, loop: Loop) -> None:
        super().__init__(loop=loop)
        self._number = loop.next_number()

    def __hash__(self) -> int:
        return self._number


class _Task(asyncio.Task[Any]):
    """Its place in sets does not come from its address: a `TaskGroup` ends its tasks in one order."""

    def __init__(self, loop: Loop, work: Any, **options: Any) -> None:
        self.number = loop.next_number()
        self.is_of_outside = Loop._is_of_outside(options.get("context") or contextvars.copy_context())
        super().__init__(work, loop=loop, **options)

    def __hash__(self) -> int:
        return self.number


class Loop(asyncio.BaseEventLoop):
    """`shuffles`: the seed chooses among all that is ready; otherwise asyncio's promise about `call_soon` is kept, and
    the seed decides only when threads and the outside answer. `on_kill` is called when the server dies, with whether
    its last commit was being written at that moment. `order`: a checksum over all steps and their times."""

    def __init__(self, seed: int, *, shuffles: bool = False) -> None:
        super().__init__()
        self.chance = random.Random(f"{seed}:order")
        self.now, self.steps, self.lives, self.order = 0.0, 0, 0, 0
        self.on_kill: Callable[[bool], None] = lambda _writing: None
        self.store_mark: Callable[[], bytes] = bytes
        """What every commit changes that adds to the store's log."""

        self.resolve: Callable[[str], str] = lambda _host: "93.184.216.34"
        self.connect: Callable[[Any, Any], Coroutine[Any, Any, None]] | None = None
        self.open: Callable[[Any, Any], Any] | None = None
        self.slow_s = 0.0
        """How long the disk takes for a commit at most, beside the latency of a thread."""

        self.errors: list[str] = []
        self._diary: list[tuple[float, str]] = []

        self._shuffles = shuffles
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self.most_steps = _MOST_STEPS
        self.ends_by_s = float("inf")
        """When whatever runs must have ended: what goes on and never comes to an end is a hang too."""

        self._numbered = self._taken = 0
        self._since = 0.0
        self._steps_of: Counter[str] = Counter()
        self.serves = True
        """Whether there is a server that can die."""

        self._kills: list[tuple[int, str]] = []
        self._dead: list[Any] = []
        self._ready: deque[asyncio.Handle] = deque()
        self.set_exception_handler(self._note)
        self.set_task_factory(_Task)  # type: ignore[arg-type]

    def next_number(self) -> int:
        """One more than the last."""
        self._numbered += 1
        return self._numbered

    def create_future(self) -> asyncio.Future[Any]:
        """A future whose place in a set is its number."""
        return _Future(self)

    def _note(self, _loop: Any, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.errors.append(f"{context.get('message')}: {error!r}" if error else str(context.get("message")))

    def say(self, what: str) -> None:
        """Notes what happened, for whoever replays it."""
        self._diary.append((self.now, what))

    def told(self) -> list[str]:
        """What happened, in plain words, oldest first."""
        return [f"{at // 3600:.0f}:{at % 3600 // 60:02.0f}:{at % 60:06.3f} {what}" for at, what in self._diary]

    # --- time and order ---
    def time(self) -> float:
        """Virtual seconds."""
        return self.now

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        """Schedules for a virtual time."""
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, self.next_number(), handle))
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        """Schedules for a time from now."""
        return self.call_at(self.now + max(0.0, delay), callback, *args, context=context)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.Handle:
        """There is one thread."""
        return self.call_soon(callback, *args, context=context)

    def _run_once(self) -> None:
        queue, timers, pop = self._ready, self._timers, heapq.heappop
        while not self._stopping:  # type: ignore[attr-defined]  # many steps in one call, which costs less
            while timers and (timers[0][2]._cancelled or timers[0][0] <= self.now):
                handle: asyncio.Handle = pop(timers)[2]
                if not handle._cancelled:
                    queue.append(handle)
            if not queue:
                if not timers:
                    raise Hang(f"Nothing is left to run at {self.now:.3f} s. {self.waiting()}")
                self.now = timers[0][0]
                if self.now - self._since > _WITHIN_S:
                    self._since, self._taken = self.now, 0
                    self._steps_of.clear()
                    if self.now > self.ends_by_s:
                        raise Hang(f"The world goes on at {self.now:.0f} s and does not end. {self.waiting()}")
                continue
            if self._shuffles and len(queue) > 1:
                queue.rotate(-self.chance.randrange(len(queue)))
            handle = queue.popleft()
            if not handle._cancelled:
                self._step(handle)

    def _step(self, handle: asyncio.Handle) -> None:
        self.steps += 1
        self.order = (self.order * 31 + hash(self.now) + _mark(handle)) & 0xFFFFFFFF
        self._taken += 1
        if self._taken > self.most_steps - _COUNTED:
            self._count(handle)
        handle._run()

    def _count(self, handle: asyncio.Handle) -> None:
        """Counts whose steps the last ones before a hang are; raises it."""
        self._steps_of[_owner(handle)] += 1
        if self._taken > self.most_steps:
            most = ", ".join(f"{name} {count}" for name, count in self._steps_of.most_common(3))
            since = f"{self.most_steps:,} steps since {self._since:.3f} s, of the last {_COUNTED:,}: {most}"
            raise Hang(f"Time does not advance: {since}. {self.waiting()}")

    def waiting(self) -> str:
        """The tasks that are not done, for a message."""
        alive = [task for task in asyncio.all_tasks(self) if _is_outside(task) or self.serves]
        outside = Counter(_name_of(task) for task in alive if _is_outside(task))
        inside = Counter(_name_of(task) for task in alive) - outside
        told = [f"{name} {count}" for found in (outside, inside) for name, count in sorted(found.items())]
        return f"{len(alive)} tasks wait, those of the outside first: " + "; ".join(told[:30])

    # --- the death of the server ---
    def kill_after(self, points: int, at: str = "") -> None:
        """The server dies after so many points from now on, of those named `at` if it is given; at once for 0."""
        if points:
            self._kills.append((points, at))
        else:
            self._kill(writing=False)

    def spare(self) -> None:
        """No further deaths."""
        self._kills.clear()

    def point(self, name: str, *, writing: bool = False, life: Any = None) -> bool:
        """A place where a kill hurts most: before and after all that leaves the process. True: it has just died.
        `writing`: a commit was being synced. `life`: whose place it is, where that is not who runs now."""
        self._kills = [(left - (at in ("", name)), at) for left, at in self._kills]
        left_ones = [one for one in self._kills if one[0] > 0]
        if len(left_ones) == len(self._kills):
            return False
        self._kills = left_ones
        return self._kill(writing)

    def _kill(self, writing: bool) -> bool:
        if not self.serves:
            return False
        self.serves = False
        self.lives += 1
        self.say("the server is killed" + (" while its commit is synced" if writing else ""))
        mine = [*self._ready, *(entry[2] for entry in self._timers)]
        self._dead.append((mine, asyncio.all_tasks(self)))
        outside = [one for one in self._ready if self._is_outside(one)]
        self._ready.clear()
        self._ready.extend(outside)
        self._timers[:] = [entry for entry in self._timers if self._is_outside(entry[2])]
        heapq.heapify(self._timers)
        self.on_kill(writing)
        return True

    @staticmethod
    def _is_of_outside(context: Any) -> bool:
        return bool(context.get(_of_outside, False))

    def _is_outside(self, handle: Any) -> bool:
        return not handle._cancelled and self._is_of_outside(handle._context)

    def life(self) -> Any:
        """What tells this life of the server from others."""
        return self.lives

    def is_alive(self, life: Any) -> bool:
        """Whether the server still lives that life."""
        return bool(self.lives == life)

    def context_of(self, _life: Any) -> contextvars.Context:
        """A context for a step of the server."""
        return contextvars.Context()

    def outside(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """A task of the outside world, which survives kills; that it fails is a fault of the simulation."""
        task = self.create_task(work, context=OUTSIDE.copy())
        task.add_done_callback(self._note_failure)
        return task

    def _note_failure(self, task: asyncio.Task[Any]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.errors.append(f"{getattr(task.get_coro(), '__qualname__', '')} failed outside: {error!r}")

    def inside(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """A task of the server."""
        return self.create_task(work, context=contextvars.Context())

    # --- threads ---
    def latency(self) -> float:
        """How long a thread or a link takes, in seconds."""
        return self.chance.choice(_LATENCIES) * self.chance.random()

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        """The work is one later step, and what came of it is told in another."""
        future = self.create_future()

        def work() -> None:
            try:
                result, tell = func(*args), future.set_result
            except Exception as error:
                result, tell = error, future.set_exception
            self.call_later(self.latency(), lambda: future.done() or tell(result))

        self.call_later(self.latency(), work)
        return future

    async def getaddrinfo(self, host: Any, port: Any, **_options: Any) -> Any:
        """The simulated network's addresses."""
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (self.resolve(host), port or 0))]

    async def sock_connect(self, sock: Any, address: Any) -> None:
        """Connects in the simulated network."""
        assert self.connect is not None
        await self.connect(sock, address)

    async def create_connection(self, protocol_factory: Any, *_args: Any, sock: Any = None, **_options: Any) -> Any:
        """The stream over a connected socket."""
        assert self.open is not None
        return self.open(protocol_factory, sock)

    async def shutdown_default_executor(self, timeout: Any = None) -> None:
        """There is none."""

    def _write_to_self(self) -> None:
        pass

    def _process_events(self, event_list: Any) -> None:
        pass

    def _refuse(self, *_args: Any, **_options: Any) -> Never:
        raise RuntimeError("this leaves the simulation")

    add_reader = add_writer = create_server = subprocess_exec = subprocess_shell = _refuse  # type: ignore[assignment]


def _mark(handle: asyncio.Handle) -> int:
    """What tells a step from others in each process: the number of its task, or a hash of its function's name."""
    callback: Any = handle._callback  # type: ignore[attr-defined]
    owner = getattr(callback, "__self__", None)
    return owner.number if type(owner) is _Task else _hash_of(getattr(callback, "__qualname__", ""))


def _owner(handle: asyncio.Handle) -> str:
    """The name of what a step is of, for people."""
    callback: Any = handle._callback  # type: ignore[attr-defined]
    owner = getattr(callback, "__self__", None)
    one = owner.get_coro() if isinstance(owner, asyncio.Task) else callback
    return getattr(one, "__qualname__", "")


def _is_outside(task: asyncio.Task[Any]) -> bool:
    return isinstance(task, _Task) and task.is_of_outside


def _name_of(task: asyncio.Task[Any]) -> str:
    return getattr(task.get_coro(), "__qualname__", "")


@cache
def _hash_of(name: str) -> int:
    return zlib.crc32(name.encode())


class SimulatedJobs:
    """The writer's thread as steps: before the commit, after it, and before it is told a kill fits."""

    def __init__(self, loop: Any, end: Callable[[GroupOutcome], None]) -> None:
        self._loop: Loop = loop
        self._end = end

    def put(self, job: Callable[[], GroupOutcome]) -> None:
        """One commit."""
        wait_s = self._loop.latency() + self._loop.slow_s * self._loop.chance.random()
        self._loop.call_later(wait_s, self._work, job, context=contextvars.Context())

    def _work(self, job: Callable[[], GroupOutcome]) -> None:
        if self._loop.point("commit"):
            return
        before = self._loop.store_mark()
        outcome = job()
        # a job that changes nothing adds no commit: the last one in the store's log is an earlier one, synced long ago
        if not self._loop.point("commit", writing=self._loop.store_mark() != before):
            self._loop.call_later(self._loop.latency(), self._end, outcome, context=contextvars.Context())

    async def stop(self, last: Callable[[], None]) -> None:
        """There is nothing to end."""
        last()


@contextlib.contextmanager
def no_threads() -> Iterator[None]:
    """Context manager: a real thread would make a run unrepeatable, so whoever starts one fails."""
    before = threading.Thread.start

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError(f"a real thread leaves the simulation: {self.name}")

    threading.Thread.start = refuse  # type: ignore[method-assign]
    try:
        yield
    finally:
        threading.Thread.start = before  # type: ignore[method-assign]
