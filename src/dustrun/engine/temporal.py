"""Many machines: Temporal decides which of them advances which run, and which one hosts the triggers.

A workflow of Temporal is a dozen lines and holds nothing but a number: the run's journal in our tables is the truth, so
no payload is in Temporal's history, and a wiped Temporal loses no run. The only module that names Temporal.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from temporalio import activity, workflow
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.common import RetryPolicy, WorkflowIDConflictPolicy
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.runtime import LoggingConfig, Runtime, TelemetryConfig
from temporalio.service import RetryConfig, RPCError, RPCStatusCode
from temporalio.worker import PollerBehaviorSimpleMaximum, UnsandboxedWorkflowRunner, Worker

from dustrun import __version__, clock, log
from dustrun.engine.hosts.advancer import Advancer, HeldBack
from dustrun.engine.run.run_context import Superseded
from dustrun.errors import Temporary, Uncertain
from dustrun.records import dataclass
from dustrun.services.sharing.store_watch import StoreWatch

_logger = log.get(__name__)
WAKE_UPS: Final = 1000
"""After so many, a run's workflow begins a new history."""
_BEAT_S: Final = 1.0
LOST_S: Final = 5.0
"""How long a process that says nothing counts as alive. A frozen process still has its polls open, and may be given one
more task by each: so it has few, and what it was given is given to another one after this time."""
_POLLS: Final[dict[str, Any]] = {
    "activity_task_poller_behavior": PollerBehaviorSimpleMaximum(maximum=1),
    "workflow_task_poller_behavior": PollerBehaviorSimpleMaximum(maximum=2),
    "sticky_queue_schedule_to_start_timeout": timedelta(seconds=2),
    "max_heartbeat_throttle_interval": timedelta(seconds=_BEAT_S),
}
_HOW: Final[dict[str, Any]] = {
    "workflow_runner": UnsandboxedWorkflowRunner(),
    "build_id": __version__,  # else the SDK reads the code of every module, and the event loop stands still meanwhile
    **_POLLS,
}
_TASK_S: Final = timedelta(seconds=LOST_S)
_ENDED, _NO_TIME = -1, 0
_FOREVER: Final = timedelta(days=3650)
_RETRY: Final = RetryPolicy(initial_interval=timedelta(milliseconds=200), maximum_interval=timedelta(seconds=1))
"""Temporal counts attempts, whatever ended them: a run that met a store that was away has many behind it, and still
must be with another process soon when this one dies."""
_RPC_S: Final = timedelta(seconds=5)
_CONNECT_AGAIN_S: Final = 1.0
_STOP_S: Final = 3.0
_GIVE_BACK_S: Final = 1.0
"""Who gives back a run has stopped polling by then, and does not get it again."""


@workflow.defn(name="dustrun-run")
class RunWorkflow:
    """Has a run advanced whenever it is woken, until it ends."""

    def __init__(self) -> None:
        self._is_woken = False

    @workflow.signal
    def wake(self) -> None:
        """A signal of the run, or a request to cancel it, is in the tables."""
        self._is_woken = True

    @workflow.run
    async def run(self, run_pk: int) -> None:
        """`run_pk`: the row id of the run."""
        for _ in range(WAKE_UPS):
            self._is_woken = False
            until = await workflow.execute_activity(
                "advance",
                run_pk,
                result_type=int,
                start_to_close_timeout=_FOREVER,
                heartbeat_timeout=timedelta(seconds=LOST_S),
                retry_policy=_RETRY,
            )
            if until == _ENDED:
                return
            wait_s = max(0.0, until / 1000 - workflow.time()) if until != _NO_TIME else None
            with contextlib.suppress(TimeoutError):
                await workflow.wait_condition(lambda: self._is_woken, timeout=wait_s)
        workflow.continue_as_new(run_pk)


@workflow.defn(name="dustrun-host")
class HostWorkflow:
    """Has one process host the triggers, and another when that one is lost."""

    @workflow.run
    async def run(self) -> None:
        """Never ends."""
        for _ in range(WAKE_UPS):
            await workflow.execute_activity(
                "host",
                start_to_close_timeout=_FOREVER,
                heartbeat_timeout=timedelta(seconds=LOST_S),
                retry_policy=_RETRY,
            )
        workflow.continue_as_new()


@dataclass(frozen=True, slots=True)
class TemporalAddress:
    """Where Temporal is, and what of it is ours."""

    address: str
    namespace: str
    queue: str


def _again(why: str, after_s: float = 0.2) -> ApplicationError:
    """Temporal schedules it again; what it stores of this says nothing about the run."""
    return ApplicationError(why, next_retry_delay=timedelta(seconds=after_s), category=ApplicationErrorCategory.BENIGN)


@functools.cache
def _runtime() -> Runtime:
    """The SDK's threads. They write no lines of their own: `trouble` says what is wrong, once, in our log."""
    quiet = TelemetryConfig(logging=LoggingConfig(filter="off"))
    return Runtime(telemetry=quiet, worker_heartbeat_interval=None)


class Connection:
    """The connection to Temporal, made once it can be; `trouble` says why there is none."""

    def __init__(self, place: TemporalAddress, identity: str) -> None:
        self.place = place
        self.trouble: str | None = f"Temporal at {place.address} was not reached yet."
        self.times_emptied = 0
        """How often Temporal has come back without what it was asked before."""
        self._identity = identity
        self._client: Client | None = None
        self._namespace_id: str | None = None

    async def client(self) -> Client:
        """Connects; waits as long as Temporal cannot be reached or has no such namespace."""
        while self._client is None:
            try:
                self._client = await self.connect()
                self.is_well()
            except Exception as error:
                self.is_unwell(error)
                await asyncio.sleep(_CONNECT_AGAIN_S)
        return self._client

    async def connect(self) -> Client:
        """A new connection; raises what kept it away."""
        place = self.place
        client = await Client.connect(
            place.address,
            runtime=_runtime(),
            namespace=place.namespace,
            identity=self._identity,
            retry_config=RetryConfig(max_elapsed_time_millis=2000, max_retries=3),
        )
        await self._describe(client)
        return client

    async def _describe(self, client: Client) -> str:
        """The id of the namespace: another one if its store was wiped."""
        request = DescribeNamespaceRequest(namespace=self.place.namespace)
        found = await client.workflow_service.describe_namespace(request, timeout=_RPC_S)
        return found.namespace_info.id

    async def look(self) -> None:
        """Finds out whether Temporal answers."""
        try:
            namespace_id = await self._describe(await self.client())
            if self._namespace_id not in (None, namespace_id):
                self.times_emptied += 1
            self._namespace_id = namespace_id
            self.is_well()
        except RPCError as error:
            self.is_unwell(error)

    def is_well(self) -> None:
        """Temporal has answered."""
        if self.trouble is not None and self._client is not None:
            _logger.info("Temporal answers", address=self.place.address, namespace=self.place.namespace)
            self.trouble = None

    def is_unwell(self, error: Exception) -> None:
        """Temporal has not done what was asked."""
        place = self.place
        if isinstance(error, RPCError) and error.status == RPCStatusCode.NOT_FOUND:
            trouble = (
                f'Temporal at {place.address} has no namespace "{place.namespace}"; create it, or correct '
                "DUSTRUN_TEMPORAL_NAMESPACE. Accepted runs wait."
            )
        else:
            trouble = f"Temporal at {place.address} cannot be reached (DUSTRUN_TEMPORAL_ADDRESS). Accepted runs wait."
        if trouble != self.trouble:
            _logger.warning(trouble, error=str(error)[:200])
            self.trouble = trouble

    async def send(self, run_pk: int, wakes: bool) -> None:
        """Starts the workflow of a run, if it has none; `wakes`: and has the run advanced even if it waits."""
        client = await self.client()
        try:
            await client.start_workflow(
                RunWorkflow.run,
                run_pk,
                id=f"{self.place.queue}-run-{run_pk}",
                task_queue=self.place.queue,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                start_signal="wake" if wakes else None,
                task_timeout=_TASK_S,
                rpc_timeout=_RPC_S,
            )
        except RPCError as error:
            self.is_unwell(error)
            raise Temporary("Temporal did not answer.") from None
        self.is_well()


async def find_trouble(place: TemporalAddress) -> str | None:
    """Why Temporal could not direct processes now; None if it could."""
    connection = Connection(place, "dustrun-doctor")
    try:
        async with asyncio.timeout(_RPC_S.total_seconds()):
            await connection.connect()
    except Exception as error:
        connection.is_unwell(error)
        return connection.trouble
    return None


class Temporal:
    """Has runs advanced by whichever process Temporal chooses, this one among them; and triggers hosted by one. While
    this one is cut off from the `store`, it is not among them, and gives back what it has."""

    def __init__(self, place: TemporalAddress, identity: str, store: StoreWatch) -> None:
        self._connection = Connection(place, identity)
        self._store = store
        self._tasks: list[asyncio.Task[None]] = []
        self._running: set[Worker] = set()
        self._is_stopping = False
        self._grace_s = 0.0

    @property
    def trouble(self) -> str | None:
        """Why Temporal decides nothing now; None if it does."""
        return self._connection.trouble

    @property
    def times_emptied(self) -> int:
        """How often Temporal has come back without what it was asked before, as far as `watch` has seen."""
        return self._connection.times_emptied

    async def send(self, run_pk: int, wakes: bool) -> None:
        """Starts the workflow of a run, if it has none; `wakes`: and has the run advanced even if it waits."""
        await self._connection.send(run_pk, wakes)

    def watch(self) -> None:
        """Connects, even if this process does nothing for Temporal, so that `trouble` is right; watches the store."""
        self._store.start()
        self._tasks.append(asyncio.get_running_loop().create_task(self._watch()))

    async def _watch(self) -> None:
        while True:
            await self._connection.look()
            await asyncio.sleep(_BEAT_S)

    async def stop(self) -> None:
        """Takes nothing new; waits for what is under way to be given up or finished."""
        self._is_stopping = True
        tasks, self._tasks = self._tasks, []
        await asyncio.gather(_end(list(self._running), tasks, self._grace_s + _STOP_S), self._store.stop())

    def serve_runs(self, advancer: Advancer, on_detached: Callable[[int], None], most: int, grace_s: float) -> None:
        """Advances runs, at most so many at once."""

        self._grace_s = grace_s

        @activity.defn(name="advance")
        async def advance(run_pk: int) -> int:
            return await _advance(advancer, run_pk, on_detached, self._store)

        self._serve(
            lambda client: Worker(
                client,
                task_queue=self._connection.place.queue,
                workflows=[RunWorkflow],
                activities=[advance],
                max_concurrent_activities=most,
                max_cached_workflows=2000,
                **_HOW,
                graceful_shutdown_timeout=timedelta(seconds=grace_s + 1),
            )
        )

    def election(self, begin: Callable[[], Awaitable[None]], end: Callable[[], Awaitable[None]]) -> Election:
        """Stands by to host the triggers, once it is started."""
        return Election(self._connection, self._store, begin, end)

    def _serve(self, make: Callable[[Client], Worker]) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(self._keep(make)))

    async def _keep(self, make: Callable[[Client], Worker]) -> None:
        while not self._is_stopping:
            await self._store.until_well()
            worker = make(await self._connection.client())
            self._running.add(worker)
            try:
                await _work(worker, self._store)
            except Exception as error:
                self._connection.is_unwell(error)
                await asyncio.sleep(_CONNECT_AGAIN_S)
            finally:
                self._running.discard(worker)


class Election:
    """Calls `begin` when Temporal has this process host the triggers, and `end` when another one may."""

    def __init__(
        self,
        connection: Connection,
        store: StoreWatch,
        begin: Callable[[], Awaitable[None]],
        end: Callable[[], Awaitable[None]],
    ) -> None:
        self.is_elected = False
        self._connection = connection
        self._store = store
        self._queue = f"{connection.place.queue}-triggers"
        self._begin = begin
        self._end = end
        self._worker: Worker | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Stands by."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._keep_serving()), loop.create_task(self._keep_asking())]

    async def stop(self) -> None:
        """Ends what was begun, and stands by no more: another process may host at once."""
        tasks, self._tasks = self._tasks, []
        await _end([self._worker] if self._worker is not None else [], tasks, _STOP_S)

    async def _keep_serving(self) -> None:
        @activity.defn(name="host")
        async def host() -> None:
            await self._host()

        while True:
            await self._store.until_well()
            client = await self._connection.client()
            self._worker = Worker(
                client,
                task_queue=self._queue,
                workflows=[HostWorkflow],
                activities=[host],
                max_concurrent_activities=1,
                **_HOW,
            )
            try:
                await _work(self._worker, self._store)
            except Exception as error:
                self._connection.is_unwell(error)
            await asyncio.sleep(_CONNECT_AGAIN_S)

    async def _keep_asking(self) -> None:
        """Asks again and again for the one workflow, since Temporal may have lost it."""
        while True:
            client = await self._connection.client()
            try:
                await client.start_workflow(
                    HostWorkflow.run,
                    id=self._queue,
                    task_queue=self._queue,
                    id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                    task_timeout=_TASK_S,
                    rpc_timeout=_RPC_S,
                )
            except RPCError as error:
                self._connection.is_unwell(error)
            await asyncio.sleep(LOST_S / 2)

    async def _host(self) -> None:
        if self.is_elected:  # what it began before has not ended yet
            raise _again("this process is ending what it hosted", 1.0)
        self.is_elected = True
        try:
            await self._begin()
            await _beat_until_lost(self._store)
        finally:
            await asyncio.shield(self._ended())

    async def _ended(self) -> None:
        await self._end()
        self.is_elected = False


async def _work(worker: Worker, store: StoreWatch) -> None:
    """Works until the worker ends; it is shut down when this process is cut off from the store, since it would get
    tasks that it cannot do, and hold up those that it has."""
    work, cut = asyncio.ensure_future(worker.run()), asyncio.ensure_future(store.until_cut())
    try:
        await asyncio.wait({work, cut}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            await worker.shutdown()
        await work
    finally:
        cut.cancel()
        work.cancel()
        await asyncio.gather(work, cut, return_exceptions=True)


async def _end(workers: list[Worker], tasks: list[asyncio.Task[None]], within_s: float) -> None:
    """Ends workers in order, and after some time anyway: a Temporal that does not answer holds up no stop."""
    ends = [asyncio.ensure_future(worker.shutdown()) for worker in workers]
    if ends:
        await asyncio.wait(ends, timeout=within_s)
    for task in (*ends, *tasks):
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=_STOP_S)
    if not all(end.done() and not end.cancelled() for end in ends):
        _leave_polls()


def _leave_polls() -> None:
    """Has the event loop not wait for polls that do not end: those of the SDK cannot be cancelled, and after a shutdown
    that the server did not hear they may go on for a minute (temporalio/sdk-rust issue 1297)."""
    for task in asyncio.all_tasks():
        code = getattr(task.get_coro(), "cr_code", None)
        if code is not None and "temporalio" in Path(code.co_filename).parts:
            task.cancel()
            asyncio.tasks._unregister_task(task)


async def _advance(advancer: Advancer, run_pk: int, on_detached: Callable[[int], None], store: StoreWatch) -> int:
    """Advances a run, and says every second that it does; returns until when the run waits. Gives the run back when
    this process is cut off from the store: what it still does for it does not count once another one has taken it."""
    task = advancer.begin(run_pk)
    try:
        while not (task.done() or store.is_cut):
            activity.heartbeat()
            await asyncio.wait({task}, timeout=_BEAT_S)
    except asyncio.CancelledError:  # Temporal knows nothing of this attempt any more; the fence says whether it counts
        if not task.done():
            task.add_done_callback(lambda _: on_detached(run_pk))
        raise
    if not task.done():
        task.add_done_callback(lambda _: on_detached(run_pk))
        raise _again("this process does not reach the store", _GIVE_BACK_S)
    try:
        answer = task.result()
    except HeldBack as held:
        return clock.now_ms() + held.after_ms
    except (Temporary, Uncertain, Superseded) as error:
        raise _again(f"{type(error).__name__}; the run is advanced again") from None
    except Exception as error:
        _logger.error("run stopped unexpectedly", run_pk=run_pk, exc_info=error)
        raise _again("stopped unexpectedly; see the server's log", 10.0) from None
    if answer is None:
        return _ENDED
    return _NO_TIME if answer.until is None else answer.until


async def _beat_until_lost(store: StoreWatch) -> None:
    """Says every second that this process hosts, until it was held up for so long that another may host by now, or is
    cut off from the store."""
    loop = asyncio.get_running_loop()
    said_at = loop.time()
    while loop.time() - said_at < LOST_S and not store.is_cut:
        said_at = loop.time()
        activity.heartbeat()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_BEAT_S):
                await activity.wait_for_worker_shutdown()
                break
    raise _again("another process hosts the triggers from here on")
