from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from dustrun.errors import Invalid, Permanent, Temporary
from dustrun.sandbox import BoundScript, Sandbox, SandboxLimits
from dustrun.sandbox.pool import FairSlots
from sandbox.limits_in_tests import LIMITS, NOW_MS, Run


async def test_nothing_starts_before_the_first_call(sandbox: Sandbox) -> None:
    assert sandbox.pids == frozenset()


async def test_process_is_reused_by_the_same_organisation(sandbox: Sandbox, run: Run) -> None:
    await run("return 1")
    first = sandbox.pids
    for _ in range(5):
        await run("return 1")
    assert sandbox.pids == first


async def test_process_is_never_shared_between_organisations(sandbox: Sandbox, run: Run) -> None:
    await run("return 1", tenant="org_a")
    first = sandbox.pids
    await run("return 1", tenant="org_b")
    assert len(sandbox.pids - first) == 1


async def test_process_of_an_error_of_the_code_is_reused(sandbox: Sandbox, run: Run) -> None:
    await run("return 1")
    first = sandbox.pids
    with pytest.raises(Invalid):
        await run("throw 1")
    await run("return 1")
    assert sandbox.pids == first


@pytest.mark.parametrize("code", ["while (1);", "return /(a*)*b/.test('a'.repeat(40))"])
async def test_process_of_a_stopped_script_is_replaced(sandbox: Sandbox, run: Run, code: str) -> None:
    await run("return 1")
    first = sandbox.pids
    with pytest.raises(Invalid):
        await run(code)
    await run("return 1")
    assert not sandbox.pids & first


async def test_processes_stay_bounded(sandbox: Sandbox, run: Run) -> None:
    for number in range(8):
        await run("return 1", tenant=f"org_{number}")
    assert len(sandbox.pids) <= 2 * LIMITS.processes


async def test_calls_at_once_are_bounded(sandbox: Sandbox, run: Run) -> None:
    calls = [run("for (let i = 0; i < 1e4; i++); return input", number) for number in range(20)]
    values = [result.value for result in await asyncio.gather(*calls)]
    assert values == list(range(20))
    assert len(sandbox.pids) <= LIMITS.processes


async def test_event_loop_turns_while_a_script_runs(run: Run) -> None:
    call = asyncio.create_task(run("while (1);", timeout_ms=200))
    turns = 0
    while not call.done():
        await asyncio.sleep(0.001)
        turns += 1
    assert turns > 5
    with pytest.raises(Invalid, match="200 ms and was stopped; raise the time limit of this call"):
        await call


async def test_process_killed_from_outside_fails_its_call_only(sandbox: Sandbox, run: Run) -> None:
    await run("return 1")
    (pid,) = sandbox.pids
    call = asyncio.create_task(run("while (1);"))
    await asyncio.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(Temporary):
        await call
    assert (await run("return 1")).value == 1


async def test_idle_process_killed_from_outside_is_replaced(sandbox: Sandbox, run: Run) -> None:
    await run("return 1")
    (pid,) = sandbox.pids
    os.kill(pid, signal.SIGKILL)
    await asyncio.sleep(0.2)
    assert (await run("return 1")).value == 1
    assert pid not in sandbox.pids


async def test_stopped_process_is_killed_by_the_wall_clock(sandbox: Sandbox, run: Run) -> None:
    await run("return 1")
    (pid,) = sandbox.pids
    await asyncio.sleep(0.1)
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(Invalid, match="ran longer than 50 ms"):
        await run("return 1", timeout_ms=50)
    assert (await run("return 1")).value == 1


async def test_cancelled_call_kills_its_process(sandbox: Sandbox, run: Run) -> None:
    await run("return 1")
    first = sandbox.pids
    call = asyncio.create_task(run("while (1);"))
    await asyncio.sleep(0.05)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await run("return 1")
    assert not sandbox.pids & first


async def test_stop_ends_all_processes_and_calls() -> None:
    sandbox = Sandbox(LIMITS)
    script = sandbox.script(tenant="org_a", now_ms=NOW_MS, seed="")
    await script.run("return 1", None)
    call = asyncio.create_task(script.run("while (1);", None))
    await asyncio.sleep(0.05)
    (pid,) = sandbox.pids
    await sandbox.stop()
    with pytest.raises(Temporary):
        await call
    with pytest.raises(Temporary, match="stopping"):
        await script.run("return 1", None)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_describe_names_each_layer(sandbox: Sandbox) -> None:
    layers = await sandbox.describe()
    assert layers["resource limits"] == layers["memory limit"] == "active"
    assert all(isinstance(state, str) and state for state in layers.values())


WorkerScript = Callable[[str], BoundScript]


@pytest.fixture
async def strange(tmp_path: Path) -> AsyncIterator[WorkerScript]:
    """A sandbox whose worker is another program."""
    boxes: list[Sandbox] = []

    def make(program: str) -> BoundScript:
        path = tmp_path / "worker.py"
        path.write_text(
            "import os, sys, time\ndef frame(data): os.write(1, len(data).to_bytes(4, 'big') + data)\n" + program
        )
        limits = SandboxLimits(time_ms=100, memory_mb=24, output_bytes=1024, processes=1)
        box = Sandbox(limits, lambda: (sys.executable, "-I", "-S", str(path)))
        boxes.append(box)
        return box.script(tenant="org_a", now_ms=NOW_MS, seed="")

    yield make
    for box in boxes:
        await box.stop()


@pytest.mark.parametrize(
    "answer",
    [
        "os.write(1, b'\\xff' * 64)",
        "frame(b'not json'); frame(b'1')",
        "frame(b'[]'); frame(b'1')",
        "frame(b'{}'); frame(b'1')",
        "frame(b'{\"limit\":\"soul\"}'); frame(b'1')",
        "frame(b'{\"ok\":true,\"logs\":[1]}'); frame(b'1')",
        "frame(b'{\"ok\":true,\"logs\":[]}'); frame(b'1' * 2000)",
        'frame(b\'{"error":{"name":1},"logs":[]}\'); frame(b"")',
    ],
)
async def test_answer_that_is_nonsense_ends_the_process(strange: WorkerScript, answer: str) -> None:
    script = strange(f"frame(b'{{}}'); os.read(0, 9); {answer}; time.sleep(9)")
    with pytest.raises(Permanent, match="gave a malformed answer and was replaced"):
        await script.run("return 1", None)
    assert script.sandbox.pids == frozenset()


async def test_value_that_is_no_json_is_an_error(strange: WorkerScript) -> None:
    script = strange("frame(b'{}'); os.read(0, 9); frame(b'{\"ok\":true,\"logs\":[]}'); frame(b'{'); time.sleep(9)")
    with pytest.raises(Invalid, match="cannot be stored"):
        await script.run("return 1", None)


async def test_worker_that_never_answers_is_killed(strange: WorkerScript) -> None:
    script = strange("frame(b'{}'); time.sleep(60)")
    with pytest.raises(Invalid, match="sandbox_time_ms"):
        await script.run("return 1", None)


async def test_worker_that_closes_its_output_and_stays_is_killed(strange: WorkerScript) -> None:
    script = strange("frame(b'{}'); os.read(0, 9); os.close(1); time.sleep(60)")
    with pytest.raises(Temporary, match="signal 9"):
        await script.run("return 1", None)


@pytest.mark.parametrize("program", ["sys.exit(1)", 'frame(b\'{"fatal": "no engine"}\')', "frame(b'nonsense')"])
async def test_worker_that_cannot_start_is_temporary(strange: WorkerScript, program: str) -> None:
    with pytest.raises(Temporary, match="cannot start a process"):
        await strange(program).run("return 1", None)


async def test_turns_rotate_between_organisations() -> None:
    turns = FairSlots(1)
    await turns.acquire("a")
    order: list[str] = []

    async def take(tenant: str) -> None:
        await turns.acquire(tenant)
        order.append(tenant)
        turns.release()

    tasks = [asyncio.create_task(take(tenant)) for tenant in "aaabbc"]
    await asyncio.sleep(0)
    turns.release()
    await asyncio.gather(*tasks)
    assert order == ["a", "b", "c", "a", "b", "a"]


async def test_turn_of_a_cancelled_wait_passes_on() -> None:
    turns = FairSlots(1)
    await turns.acquire("a")
    gone = asyncio.create_task(turns.acquire("b"))
    late = asyncio.create_task(turns.acquire("b"))
    await asyncio.sleep(0)
    turns.release()
    gone.cancel()
    await asyncio.wait_for(late, 1)
    turns.release()
    await asyncio.wait_for(turns.acquire("a"), 1)


def test_sandbox_works_on_uvloop() -> None:
    uvloop = pytest.importorskip("uvloop")

    async def calls() -> list[object]:
        sandbox = Sandbox(LIMITS)
        script = sandbox.script(tenant="org_a", now_ms=NOW_MS, seed="")
        found = await asyncio.gather(
            script.run("return input", 1),
            script.run("while (1);", None, 100),
            script.run("return /(a*)*b/.test('a'.repeat(40))", None, 100),
            return_exceptions=True,
        )
        await sandbox.stop()
        return [type(result).__name__ for result in found]

    assert uvloop.run(calls()) == ["ScriptResult", "Invalid", "Invalid"]
