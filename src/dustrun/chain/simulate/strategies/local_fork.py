"""Runs a child node (anvil) that forks the chain at the pinned block, for endpoints that support only plain reads.

The child reads through a relay on 127.0.0.1, so that it uses all endpoints with back-off and rate limits, their URLs do
not appear on its command line, and it cannot send transactions.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dustrun.chain.endpoints import Endpoint, Endpoints
from dustrun.chain.probe import abilities_of
from dustrun.chain.rpc import EndpointDown, Rpc, RpcError, RpcRequest
from dustrun.chain.simulate.creation import Ask
from dustrun.chain.simulate.fork import Fork, Step
from dustrun.chain.simulate.result import BatchResult, DryRun, MeasuredTransaction, ReadBatch
from dustrun.chain.simulate.strategies.answers import fork_lost
from dustrun.chain.simulate.strategies.simulate_v1 import SimulateV1
from dustrun.errors import Code, Permanent, Temporary
from dustrun.sdk.chain import CallResult, ChainCall

if TYPE_CHECKING:
    import aiohttp

if TYPE_CHECKING:
    from dustrun.chain.simulate.strategies.relay import Relay

# The child is killed when this process ends for any reason: the shell's standard input is closed then.
_KEEPER: Final = """
exec 3<&0
"$@" </dev/null 3<&- &
child=$!
{ read -r _ <&3; kill $child; } >/dev/null 2>&1 &
watcher=$!
wait $child
code=$?
kill $watcher 2>/dev/null
exit $code
"""
_READY_WITHIN_S: Final = 20.0
_STOP_WITHIN_S: Final = 3.0
_TIMEOUT_S: Final = 60.0
_MAX_BYTES: Final = 67_108_864


class LocalFork:
    """`eth_simulateV1` on the child."""

    def __init__(self, process: asyncio.subprocess.Process, relay: Relay, session: aiohttp.ClientSession) -> None:
        self.creates = False
        self._process = process
        self._relay = relay
        self._session = session
        self._inner: SimulateV1 | None = None

    @classmethod
    async def open(cls, binary: Path, endpoints: Endpoints, fork: Fork) -> LocalFork:
        """Starts the child and checks that it forked the pinned block. Raises `Permanent` if the binary does not start
        or the block is gone."""
        from dustrun.chain.simulate.strategies.relay import Relay  # slow import: a web server

        if not os.access(binary, os.X_OK):
            raise Permanent(
                f"The binary of `fork_binary` cannot be started: {binary} is not executable.", code=Code.SIM_UNAVAILABLE
            )
        import aiohttp  # slow import

        relay = Relay(endpoints, fork)
        upstream = await relay.start()
        words = ["--host", "127.0.0.1", "--port", "0", "--fork-url", upstream, "--no-storage-caching"]
        words += ["--fork-block-number", str(fork.number), "--chain-id", str(endpoints.network.chain_id)]
        words += ["--no-rate-limit", "--retries", "1", "--accounts", "1"]
        try:
            process = await asyncio.create_subprocess_exec(
                *("/bin/sh", "-c", _KEEPER, "dustrun-fork", str(binary), *words),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        except BaseException as error:
            await relay.stop()
            if not isinstance(error, OSError):
                raise
            raise Permanent(
                f"The binary of `fork_binary` cannot be started: {error.strerror}.", code=Code.SIM_UNAVAILABLE
            ) from None
        child = cls(process, relay, aiohttp.ClientSession())
        try:
            await child._connect(endpoints, fork)
        except BaseException:
            await child.close()
            raise
        return child

    async def _connect(self, endpoints: Endpoints, fork: Fork) -> None:
        url = await self._address()
        rpc = Rpc(url, self._session, per_second=0, timeout_s=_TIMEOUT_S, max_bytes=_MAX_BYTES)
        child = Endpoint(rpc)
        own = Endpoints(endpoints.network, [child])
        try:
            block = await rpc.call(RpcRequest("eth_getBlockByNumber", (hex(fork.number), False)))
            self.creates = (await abilities_of(child)).simulate_creation
        except (RpcError, EndpointDown) as error:
            raise Temporary(f"The local fork does not answer: {error}.", code=Code.CHAIN_UNREACHABLE) from None
        if not isinstance(block, dict) or block.get("hash") != fork.hash:
            raise fork_lost(fork, endpoints.network.name)
        self._inner = SimulateV1(own, [child], self.creates)

    async def _address(self) -> str:
        """The child's URL, parsed from its output; raises `Permanent` if it ends or times out before it prints one."""
        assert self._process.stdout is not None
        printed: list[str] = []
        try:
            async with asyncio.timeout(_READY_WITHIN_S):
                async for line in self._process.stdout:
                    text = line.decode(errors="replace").strip()
                    printed.append(text)
                    if text.startswith("Listening on "):
                        self._drain = asyncio.create_task(_drain(self._process.stdout))
                        return f"http://{text.removeprefix('Listening on ')}"
        except TimeoutError:
            printed.append(f"no address within {_READY_WITHIN_S:g} s")
        output = " ".join(printed[-5:])[-500:]
        raise Permanent(f"The binary of `fork_binary` does not work: {output}.", code=Code.SIM_UNAVAILABLE)

    async def close(self) -> None:
        """Stops the child, by SIGKILL after 3 s, and the relay."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        if self._process.returncode is None:
            try:
                async with asyncio.timeout(_STOP_WITHIN_S):
                    await self._process.wait()
            except TimeoutError:
                os.killpg(self._process.pid, signal.SIGKILL)
                await self._process.wait()
        with contextlib.suppress(ConnectionError):
            await self._process.stdin.wait_closed()
        await self._session.close()
        await self._relay.stop()

    @property
    def _chain(self) -> SimulateV1:
        assert self._inner is not None, "the fork is not connected"
        return self._inner

    async def read(self, fork: Fork, calls: Sequence[ChainCall]) -> list[CallResult]:
        """As `SimulateV1.read`, on the child."""
        return await self._chain.read(fork, calls)

    async def probe(self, fork: Fork, asks: Sequence[Ask]) -> list[int | None]:
        """As `SimulateV1.probe`, on the child."""
        return await self._chain.probe(fork, asks)

    async def code(self, fork: Fork, address: str) -> bytes:
        """As `SimulateV1.code`, on the child."""
        return await self._chain.code(fork, address)

    async def read_batch(self, fork: Fork, reads: ReadBatch) -> BatchResult:
        """As `SimulateV1.read_batch`, on the child."""
        return await self._chain.read_batch(fork, reads)

    async def dry_run(self, fork: Fork, step: Step) -> DryRun:
        """As `SimulateV1.dry_run`, on the child."""
        return await self._chain.dry_run(fork, step)

    async def measure(
        self, fork: Fork, step: Step, dry_run: DryRun, before: Sequence[Ask], after: Sequence[Ask], reads: ReadBatch
    ) -> MeasuredTransaction:
        """As `SimulateV1.measure`, on the child."""
        return await self._chain.measure(fork, step, dry_run, before, after, reads)

    async def keep(self, fork: Fork, step: Step, measured: MeasuredTransaction, owner_units: int | None) -> None:
        """As `SimulateV1.keep`, on the child."""
        await self._chain.keep(fork, step, measured, owner_units)


async def _drain(stream: asyncio.StreamReader) -> None:
    """Discards the child's output, so that it never blocks on a full pipe."""
    while await stream.read(65_536):
        pass
