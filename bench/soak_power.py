"""Shows by the system calls of a real server that what it says is on disk when it says so.

    scripts/soak power [--scale RUN_CALLS] [--seed S] [--set store=postgresql] [--set synchronous=NORMAL]

The server runs under strace. For each run call: the first write to the write-ahead log that holds the run's id, then a
data sync of that file that began after it and ended well, and only then the answer 200. The same for each request that
goes out to the sink (the record that its node started), for each event on a stream (the event's row), and for each
transaction that is broadcast to a chain (its signed bytes).
On PostgreSQL, which lies on disk with its own defaults, the database's processes are traced too: its write-ahead log is
what must hold the record and be synced.
With `synchronous=NORMAL` it must fail: that setting gives this promise up (on PostgreSQL: `fsync` off, since Dustrun
turns `synchronous_commit` on).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from testkit import syscalls
from testkit.chain.anvil import CHAIN_ID, Anvil
from testkit.crash_workflows import say, write
from testkit.outbox_world import Api, recipient, server_of
from testkit.postgres import Cluster
from testkit.server_process import ServerProcess
from testkit.sink import SinkProcess
from testkit.syscalls import Call

_SENDS = frozenset({"write", "writev", "sendto", "sendmsg"})
_LOG_WRITES = frozenset({"pwrite64", "pwritev"})
_AT_ONCE = 8


def run(scale: int | None, seed: int, synchronous: str = "FULL", store: str = "sqlite") -> dict[str, Any]:
    """`scale` run calls (default 500)."""
    if shutil.which("strace") is None:
        raise SystemExit("soak power needs strace, which is not installed (Debian: apt-get install strace).")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dustrun-power-")))
        trace = folder / "trace"
        if store == "sqlite":
            traced = Traced(trace, syscalls.command(trace), {"sqlite_synchronous": synchronous})
        else:
            traced = _on_postgresql(stack, trace, synchronous)
        return asyncio.run(_run(folder, traced, scale or 500, seed))


@dataclass(frozen=True)
class Traced:
    """A server to trace: by which command, with which settings. `end_others` ends what is traced beside it."""

    trace: Path
    command: list[str]
    settings: dict[str, str]
    end_others: Callable[[], object] = lambda: None


def _on_postgresql(stack: contextlib.ExitStack, trace: Path, synchronous: str) -> Traced:
    cluster = Cluster(durable=synchronous == "FULL")
    stack.callback(cluster.end)
    command = syscalls.command(trace, also=cluster.pids)
    return Traced(trace, command, {"database_url": cluster.fresh()}, lambda: cluster.stop("fast"))


async def _run(folder: Path, traced: Traced, calls: int, seed: int) -> dict[str, Any]:
    sink = SinkProcess(seed)
    with Anvil() as node:
        settings = {"outbound_allow": "127.0.0.1", **traced.settings}
        server = server_of(folder, node.url, 1, 1000, before=traced.command, **settings)
        try:
            server.start()
            await server.wait_ready(120)
            tags = await _load(server, sink, calls, random.Random(seed))
        finally:
            await _stop(server, traced)
            sink.stop()
    found = judge(syscalls.read(traced.trace), tags)
    if found["syncedBefore"]["broadcasts"] < len(tags):
        found["failures"].append(f"{len(tags)} transfers, {found['syncedBefore']['broadcasts']} proved broadcasts")
    return found


async def _stop(server: ServerProcess, traced: Traced) -> None:
    """Ends the server, then what is traced beside it, without which the tracer does not end."""
    if server.is_alive:
        own = Path(f"/proc/{server.server_pid}")
        server.ask_to_stop()
        while own.exists():
            await asyncio.sleep(0.05)
        await asyncio.to_thread(traced.end_others)
    await server.stop()


_DEFINITION = {
    "nodes": {
        "root": {"type": "manual", "payload": {}, "children": ["plain", "keyed", "pay"]},
        "pay": {
            "type": "send-native",
            "payload": {"chainId": CHAIN_ID, "recipient": recipient(1), "amount": "1"},
        },
        "plain": write("ok", "plain", "say"),
        "keyed": write("ok", "keyed", "say", idempotent=True),
        "say": say("said-{{$trigger.body.tag}}"),
    },
    "triggerNodeIds": ["root"],
}


async def _load(server: ServerProcess, sink: SinkProcess, calls: int, chance: random.Random) -> list[str]:
    """Starts runs, a few at a time, each with a reader of its stream; the tags of those that were answered 200."""
    tags: list[str] = []
    left = asyncio.Semaphore(_AT_ONCE)
    headers = {"Authorization": f"Bearer {server.owner_key}"}
    api = Api(server)
    await api.make_wallet()
    await api.close()
    async with aiohttp.ClientSession(server.base, headers=headers) as session:
        body = {"name": "power", "description": "", "definition": _DEFINITION}
        async with session.post("/v1/workflows", json=body) as answer:
            workflow_id = (await answer.json())["data"]["id"]

        async def one(number: int) -> None:
            async with left:
                tag = f"p{number:06d}x{chance.randrange(10**6):06d}"
                reading = asyncio.create_task(_read(session, f"run_{tag}"))
                started = {"runId": f"run_{tag}", "payload": {"sink": sink.base, "tag": tag}}
                async with session.post(f"/v1/workflows/{workflow_id}/run", json=started) as answer:
                    assert answer.status == 200, await answer.text()
                tags.append(tag)
                await reading

        await asyncio.gather(*(one(number) for number in range(calls)))
    return tags


async def _read(session: aiohttp.ClientSession, run_id: str) -> None:
    async with session.get(f"/v1/runs/{run_id}/stream") as answer:
        async for line in answer.content:
            if line.startswith(b"event: end"):
                return


# --- the verdict ---


class Promise:
    """One kind of thing that must be on disk before it is said: which text, and which outgoing call says it."""

    def __init__(self, name: str, written: Callable[[str], str], said: Callable[[str], tuple[str, ...]]) -> None:
        self.name = name
        self.written = written
        self.said = said


PROMISES = (
    Promise(
        "answers",
        lambda tag: f"run_{tag}",
        lambda tag: (f'\\"message\\":\\"success\\",\\"data\\":{{\\"runId\\":\\"run_{tag}\\"',),
    ),
    Promise("plainWrites", lambda tag: f"/ok/{tag}/plain", lambda tag: (f"POST /ok/{tag}/plain",)),
    Promise("keyedWrites", lambda tag: f"/ok/{tag}/keyed", lambda tag: (f"POST /ok/{tag}/keyed",)),
    Promise("streamEvents", lambda tag: f"said-{tag}", lambda tag: ("event: log", f"said-{tag}")),
)


_BROADCAST = re.compile(r"eth_sendRawTransaction[^0]{0,40}(0x[0-9a-f]{100,})")
_BROADCASTS = "broadcasts"


class Trace:
    """The calls that matter, by the run that they speak of."""

    def __init__(self, calls: Iterable[Call]) -> None:
        self.syncs: list[Call] = []
        self.log_writes: list[Call] = []
        self.sends: list[Call] = []
        self.heads: dict[int, Call] = {}
        self.failed_syncs = 0
        self._pages = syscalls.Pages()
        self._newest_head: dict[str, Call] = {}
        for call in calls:
            self._sort(call)

    def _sort(self, call: Call) -> None:
        is_log = call.file.endswith("-wal") or "/pg_wal/" in call.file
        if "/pg_wal/" in call.file and call.name in _LOG_WRITES:
            call.text = self._pages.text_of(call.text)
        if call.name in ("fdatasync", "fsync"):
            if call.result != 0:
                self.failed_syncs += 1
            elif is_log:
                self.syncs.append(call)
        elif is_log:
            self.log_writes.append(call)
        elif call.name in _SENDS and call.file.startswith("socket"):
            self.sends.append(call)
            self._pair(call)

    def _pair(self, call: Call) -> None:
        """The head of an answer goes out in a call of its own, just before the body: that is when it is said."""
        if '"HTTP/1.1 ' in call.text:
            self._newest_head[call.file] = call
        elif (head := self._newest_head.pop(call.file, None)) is not None:
            self.heads[call.begun] = head


def judge(calls: Iterable[Call], tags: list[str]) -> dict[str, Any]:
    """Holds the order of the calls against every promise; what came too early is a failure."""
    trace = Trace(calls)
    by_tag_writes, by_tag_sends = _by_tag(trace.log_writes, tags), _by_tag(trace.sends, tags)
    failures: list[str] = []
    proved = {promise.name: 0 for promise in PROMISES}
    for tag in tags:
        for promise in PROMISES:
            fault = _fault(
                promise, tag, by_tag_writes.get(tag, []), by_tag_sends.get(tag, []), trace.syncs, trace.heads
            )
            if fault is None:
                proved[promise.name] += 1
            else:
                failures.append(f"{promise.name} of {tag}: {fault}")
    early, proved[_BROADCASTS] = _judge_broadcasts(trace)
    failures += early
    return {
        "runCalls": len(tags),
        "syncedBefore": proved,
        "syncsOfTheLog": len(trace.syncs),
        "writesOfTheLog": len(trace.log_writes),
        "failedSyncs": trace.failed_syncs,
        "failures": failures[:50],
    }


def _judge_broadcasts(trace: Trace) -> tuple[list[str], int]:
    """Of each transaction the first broadcast, whose bytes must be in the log, and synced, before it; what came too
    early, and how many did not."""
    said: dict[str, Call] = {}
    for call in trace.sends:
        found = _BROADCAST.search(call.text)
        if found is not None:
            said.setdefault(found[1], call)
    failures, proved = [], 0
    for raw, call in said.items():
        written = next((one for one in trace.log_writes if _holds(one, raw)), None)
        done = (
            _first_sync_after(trace.syncs, written.ended) if written is not None and written.ended is not None else None
        )
        if done is None or done >= call.begun:
            failures.append(f"{_BROADCASTS} of {raw[:40]}…: said at {call.begun}, synced at {done}")
        else:
            proved += 1
    return failures, proved


def _holds(written: Call, raw: str) -> bool:
    """Whether it wrote these signed bytes: either half of the signature, since a page may end within the other."""
    return raw[-64:] in written.text or raw[-128:-64] in written.text


def _by_tag(calls: list[Call], tags: list[str]) -> dict[str, list[Call]]:
    known = frozenset(tags)
    length = len(tags[0]) if tags else 0
    found: dict[str, list[Call]] = {}
    for call in calls:
        mentioned = {part[:length] for part in _pieces(call.text, length)} & known
        for tag in mentioned:
            found.setdefault(tag, []).append(call)
    return found


def _pieces(text: str, length: int) -> Iterable[str]:
    place = text.find("p0")
    while place >= 0:
        yield text[place : place + length]
        place = text.find("p0", place + 1)


def _fault(
    promise: Promise, tag: str, writes: list[Call], sends: list[Call], syncs: list[Call], heads: dict[int, Call]
) -> str | None:
    """None when a sync lies between the first write of the record and the first word of it."""
    wanted, words = promise.written(tag), promise.said(tag)
    written = next((call for call in writes if wanted in call.text), None)
    told = next((call for call in sends if all(word in call.text for word in words)), None)
    if told is None:
        return "it was never said"
    said = min(call.begun for call in (told, heads.get(told.begun)) if call is not None)
    if written is None or written.ended is None:
        return "it was never written to the log"
    done = _first_sync_after(syncs, written.ended)
    if done is None or done >= said:
        return f"said at {said}, written at {written.ended}, synced at {done}"
    return None


def _first_sync_after(syncs: list[Call], place: int) -> int | None:
    """Where the earliest sync ended that began after a place."""
    return min((call.ended for call in syncs if call.begun > place and call.ended is not None), default=None)
