"""The workers of all active hooks, in this process."""

from __future__ import annotations

import asyncio
import functools

from dustrun.listeners import Listeners
from dustrun.services.hooks.worker import HookDeps, HookWorker
from dustrun.services.streaming.broadcaster import Broadcaster
from dustrun.storage.hooks import hooks as rows


class HookHost:
    """Starts a worker for each active hook, and tells it of commits of its organisation. An organisation without hooks
    has neither."""

    def __init__(self, deps: HookDeps, hub: Broadcaster) -> None:
        self._deps = deps
        self._hub = hub
        self._workers: dict[str, dict[str, HookWorker]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._is_open = False
        self.on_changed: Listeners[[str, str]] = Listeners()
        """In a shared store: called with the organisation and the hook that was changed here."""

    async def start(self) -> None:
        """Takes up every active hook where it stopped."""
        self._is_open = True
        for hook_id, org_id in await self._deps.database.read(rows.list_active):
            self.look(org_id, hook_id)

    async def stop(self) -> None:
        """Stops sending; an attempt that is under way is made again at the next start."""
        self._is_open = False
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for org_id in self._workers:
            self._hub.listen(org_id, None)
        self._workers.clear()
        self._tasks.clear()

    def changed(self, org_id: str, hook_id: str) -> None:
        """Call it after a change of a hook or its deliveries was committed."""
        self.on_changed(org_id, hook_id)
        self.look(org_id, hook_id)

    def look(self, org_id: str, hook_id: str) -> None:
        """A hook has changed, here or in another process."""
        if not self._is_open:
            return
        workers = self._workers.setdefault(org_id, {})
        if hook_id in workers:
            workers[hook_id].tell(None, True)
            return
        worker = workers[hook_id] = HookWorker(self._deps, hook_id, functools.partial(self._end, org_id))
        self._hub.listen(org_id, functools.partial(_tell_all, workers))
        self._tasks[hook_id] = asyncio.get_running_loop().create_task(worker.run())

    def _end(self, org_id: str, hook_id: str) -> None:
        workers = self._workers.get(org_id, {})
        workers.pop(hook_id, None)
        self._tasks.pop(hook_id, None)
        if not workers:
            self._workers.pop(org_id, None)
            self._hub.listen(org_id, None)


def _tell_all(workers: dict[str, HookWorker], run_pk: int | None, is_activity: bool) -> None:
    for worker in workers.values():
        worker.tell(run_pk, is_activity)
