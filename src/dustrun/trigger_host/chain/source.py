"""Watches chains for the subscriptions of chain triggers: one watcher a chain, started with its first subscription."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Final

from dustrun import log
from dustrun.chain.chains import Chains
from dustrun.chain.watching import BlockReader
from dustrun.services.triggers.chain_intake import ChainIntake
from dustrun.services.triggers.chain_store import ChainStore
from dustrun.services.triggers.subscriptions import Subscription, Subscriptions
from dustrun.trigger_host.chain.blocks import Blocks
from dustrun.trigger_host.chain.headers import Headers
from dustrun.trigger_host.chain.scanner import ScannerParts
from dustrun.trigger_host.chain.watched import WatchedSubscription, WatchOptions
from dustrun.trigger_host.chain.watcher import ChainWatcher

_logger = log.get(__name__)
_NO_CHAIN: Final = "The server does not serve chain {chain_id} any more."


class ChainSource:
    """The `Source` of chain triggers."""

    def __init__(
        self,
        chains: Chains,
        store: ChainStore,
        intake: ChainIntake,
        subscriptions: Subscriptions,
        options: WatchOptions,
    ) -> None:
        self._chains = chains
        self._store = store
        self._intake = intake
        self._subscriptions = subscriptions
        self._options = options
        self._watchers: dict[int, ChainWatcher] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}

    async def start(self) -> None:
        """A watcher starts with its first subscription."""

    async def stop(self) -> None:
        """Ends every watcher; what is not recorded is scanned again after the next start."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        for watcher in self._watchers.values():
            await watcher.stop()
        self._watchers.clear()
        self._tasks.clear()

    async def arm(self, sub: Subscription) -> None:
        """Watches its chain for a subscription; stops one whose chain is not served any more."""
        one = self._watched(sub)
        if not self._chains.is_served(one.watch.chain_id):
            _logger.error("a chain is not served any more", chain_id=one.watch.chain_id, subscription=sub.id)
            if sub.is_armed:
                await self._store.fail(sub, _NO_CHAIN.format(chain_id=one.watch.chain_id))
            return
        for chain_id, watcher in self._watchers.items():
            if chain_id != one.watch.chain_id:
                await watcher.disarm(sub.id)
        await self.watcher(one.watch.chain_id).arm(one)

    async def disarm(self, subscription_id: str) -> None:
        """Watches for it no more."""
        for watcher in self._watchers.values():
            if await watcher.disarm(subscription_id):
                return

    def watcher(self, chain_id: int) -> ChainWatcher:
        """The watcher of a chain, started if need be."""
        if chain_id not in self._watchers:
            watcher = self._watchers[chain_id] = self._make(chain_id)
            self._tasks[chain_id] = asyncio.get_running_loop().create_task(watcher.work())
        return self._watchers[chain_id]

    def _make(self, chain_id: int) -> ChainWatcher:
        reader = BlockReader(self._chains.get(chain_id))
        headers = Headers(chain_id, reader, self._store)
        blocks = Blocks(reader, lambda: [one.watch for one in watcher.watched])
        parts = ScannerParts(reader, headers, blocks, self._store, self._intake)
        watcher = ChainWatcher(chain_id, parts, self._find, self._options)
        return watcher

    async def _find(self, subscription_id: str) -> WatchedSubscription | None:
        sub = await self._subscriptions.find(subscription_id)
        return self._watched(sub) if sub is not None and sub.is_watched else None

    def _watched(self, sub: Subscription) -> WatchedSubscription:
        assert sub.trigger.watch is not None
        watch = sub.trigger.watch(sub.config)
        if watch.confirmations is None:
            network = self._chains.networks.get(watch.chain_id)
            watch = replace(watch, confirmations=network.confirmations if network is not None else 1)
        return WatchedSubscription.of(sub, watch)
