"""The bench of other engines keeps what it found when one of them gets stuck, and says why."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

from bench import bench_peers
from bench.peers import TOOLS, aims, http_load, installing, processes
from testkit.ports import free_port

FIGURES = {"runsPerSecond", "cpuMsPerRun", "aloneP50Ms", "aloneP99Ms", "chain40S"}
RUNS = 60
ROUNDS = 50 + 3 * RUNS  # what warms up, and the three rounds of the rate
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1"


@contextmanager
def answering(most: int, then: bytes = b"") -> Iterator[int]:
    """The port of a server that answers `most` calls, and each further one with `then`, or never."""
    loops: Queue[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Queue()
    port, answered = free_port(), 0
    connections: list[asyncio.StreamWriter] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal answered
        connections.append(writer)
        while await reader.readline():
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(1)
            answered += 1
            writer.write(ANSWER if answered <= most else then)

    async def serve() -> None:
        ended = asyncio.Event()
        server = await asyncio.start_server(answer, "127.0.0.1", port)
        loops.put((asyncio.get_running_loop(), ended))
        await ended.wait()
        server.close()
        for connection in connections:
            connection.close()
        await asyncio.gather(*(one.wait_closed() for one in connections), return_exceptions=True)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    loop, ended = loops.get()
    try:
        yield port
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[processes.Running]:
    """A process that has logged a line."""
    log = tmp_path / "engine.log"
    log.write_text("started\nno worker polls\n")
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield processes.Running(process, 0.0, log)
    process.communicate(b"\n")


def measured(port: int, peer: processes.Running) -> dict[str, Any]:
    return http_load.measure(port, "/three", "/forty", RUNS, (peer,), states=lambda: "2 are running", ends_within_s=3)


def test_an_engine_that_answers_gets_every_figure(peer: processes.Running) -> None:
    with answering(10_000) as port:
        assert measured(port, peer).keys() == FIGURES


def test_an_engine_that_hangs_keeps_its_figures_and_says_why(peer: processes.Running) -> None:
    with answering(ROUNDS + 10) as port:
        found = measured(port, peer)
    assert found.keys() == {"runsPerSecond", "cpuMsPerRun", "incomplete"}
    assert found["incomplete"] == (
        "a workflow did not end within 3 s; 10 of 60 alone ended before; 2 are running; "
        "engine runs; the end of its log: started / no worker polls"
    )


def test_an_engine_that_answers_with_an_error_is_named_with_it(peer: processes.Running) -> None:
    with answering(ROUNDS, b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n") as port:
        found = measured(port, peer)
    assert found["incomplete"].startswith("/three was answered b'HTTP/1.1 503 Busy")


def test_a_program_that_fails_or_hangs_keeps_what_it_printed(tmp_path: Path) -> None:
    file = tmp_path / "program.py"
    figures = "import sys, time\nprint('{\"readyS\": 1}', flush=True)\nprint('busy', file=sys.stderr, flush=True)\n"
    python = Path(sys.executable)
    file.write_text(f"{figures}sys.exit(3)")
    assert processes.program(python, file) == {"readyS": 1, "incomplete": "its program ended with 3: busy"}
    file.write_text(f"{figures}time.sleep(60)")
    assert processes.program(python, file, limit_s=2) == {
        "readyS": 1,
        "incomplete": "its program did not end within 2 s; the end of its log: busy",
    }


def test_engines_are_told_side_by_side_with_what_was_measured_of_them() -> None:
    ours = {"version": "this commit", "store": "PostgreSQL", "runsPerSecond": 1600.5, "aloneP50Ms": 3.1, "readyS": 1.2}
    told = bench_peers.beside({"dustrun": ours, "restate": {"unavailable": "no package"}}).splitlines()
    assert told[0].split()[:2] == ["runs/s", "ms"]
    assert told[1].split() == ["dustrun", "1600.5", "3.1", "-", "-", "1.2", "-", "this", "commit;", "PostgreSQL"]
    assert told[2].split() == ["restate", *["-"] * 6, "no", "package"]


def test_aims_are_judged_by_the_figures_of_one_run() -> None:
    pure = {"runsPerSecond": 2500.0, "cpuMsPerRun": 0.42}
    ours = {
        "runsPerSecond": 1600.0,
        "aloneP50Ms": 3.1,
        "chain40S": 0.02,
        "readyS": 1.2,
        "idleRssMib": 104.0,
        "pure": pure,
    }
    judged = aims.judge(
        {"dustrun": ours, "dustrun on PostgreSQL": {"unavailable": "no"}, "restate": {"runsPerSecond": 400.0}}
    )
    assert [(one["measured"], one["met"]) for one in judged] == [
        (4.0, True),
        (None, False),
        (2500.0, True),
        (None, False),
        (0.42, True),
        (None, False),
        (3.1, False),
        (0.02, True),
        (1.2, True),
        (104.0, True),
    ]
    assert judged[0]["aim"] == "at least 4 times as many workflows a second as Restate: dustrun"


def test_peers_of_npm_find_the_node_that_is_installed_for_them_first() -> None:
    found = installing.node_environment()
    assert found["PATH"].split(os.pathsep)[0] == str(TOOLS / installing.NODE / "bin")
