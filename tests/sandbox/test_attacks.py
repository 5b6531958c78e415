"""Hostile scripts: each harms its own call only, and the error names the limit and the setting."""

from __future__ import annotations

import asyncio
import signal

import pytest

from dustrun.errors import Invalid
from dustrun.sandbox import Sandbox, exchange
from sandbox.limits_in_tests import LIMITS, Run

TIME = "sandbox_time_ms"
MEMORY = "sandbox_memory_mb"
OUTPUT = "sandbox_output_bytes"

ENDLESS = {
    "loop": "while (1);",
    "loop that catches": "for (;;) { try { while (1); } catch (e) {} }",
    "loop in a finally": "try { while (1); } finally { while (1); }",
    "regular expression": "return /^(a+)+$/.test('a'.repeat(40) + 'b')",
    "regular expression in replace": "return 'a'.repeat(40).replace(/(a*)*b/g, '')",
    "promises": "for (;;) await 1",
    "promise that catches": "const f = async () => { try { while (1); } catch (e) {} return f() }; return f()",
    "getter in the value": "return { get a() { while (1); } }",
    "toJSON in the value": "return { toJSON() { while (1); } }",
    "proxy in the value": "return new Proxy({}, { ownKeys() { while (1); } })",
    "proxy that is an endless array": "return new Proxy([], { get: (t, k) => (k === 'length' ? 2 ** 53 - 1 : null) })",
    "thenable": "return { then() { while (1); } }",
    "thrown object": "throw { toJSON() { while (1); } }",
    "message of a thrown error": "throw Object.defineProperty(Error(), 'message', { get() { while (1); } })",
    "sort": "return Array.from({ length: 1e5 }, (_, i) => i).sort(() => { while (1); })",
    "big powers": "let x = 3n; for (;;) x = x * x",
    "console": "console.log({ get a() { while (1); } })",
}


ONLY_ENDLESS = ("loop", "regular expression", "promises", "getter in the value")
"""No other limit ends these."""
ALIKE = (
    *("loop in a finally", "regular expression in replace", "promise that catches", "toJSON in the value"),
    *("proxy in the value", "thenable", "message of a thrown error", "sort", "console"),
)
"""They hold the script up in a place where one of the others does too."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] if name in ALIKE else []) for name in ENDLESS]
)
async def test_endless_script_is_stopped(run: Run, name: str) -> None:
    with pytest.raises(Invalid) as caught:
        async with asyncio.timeout(60):
            await run(ENDLESS[name])
    assert any(limit in caught.value.message for limit in (TIME, OUTPUT, MEMORY))
    if name in ONLY_ENDLESS:
        assert caught.value.message == (
            "The script ran longer than 300 ms and was stopped; the setting `sandbox_time_ms` raises the limit."
        )
    assert (await run("return 1")).value == 1


MEMORY_BOMBS = {
    "strings": "const a = []; for (;;) a.push('x'.repeat(1e6) + a.length)",
    "doubling": "let s = 'ab'; for (;;) s += s",
    "arrays": "const a = []; for (;;) a.push(new Array(1000).fill(a))",
    "buffer": "const a = []; for (;;) a.push(new ArrayBuffer(1 << 20))",
    "one array": "return new Array(1e9).fill(0)",
    "map": "const m = new Map(); for (let i = 0; ; i++) m.set(i, i)",
}


@pytest.mark.parametrize("code", MEMORY_BOMBS.values(), ids=MEMORY_BOMBS.keys())
async def test_memory_bomb_is_stopped(run: Run, code: str) -> None:
    with pytest.raises(Invalid) as caught:
        await run(code)
    assert MEMORY in caught.value.message or TIME in caught.value.message
    assert (await run("return 1")).value == 1


async def test_memory_bomb_names_the_memory_limit(run: Run) -> None:
    with pytest.raises(Invalid, match="needed more than 24 MiB of memory; the setting `sandbox_memory_mb`"):
        await run(MEMORY_BOMBS["doubling"])


def test_engine_that_crashes_at_its_memory_limit_names_that_limit() -> None:
    message = str(exchange.died(-signal.SIGSEGV, LIMITS, 300))
    assert "SIGSEGV" in message
    assert "more than 24 MiB of memory, which the setting `sandbox_memory_mb` raises" in message


async def test_input_that_would_fill_the_memory_is_refused(run: Run) -> None:
    with pytest.raises(Invalid, match="sandbox_memory_mb"):
        await run("return 1", "x" * (7 << 20))


@pytest.mark.parametrize(
    "code",
    [
        "return 'x'.repeat(65535)",
        "return Array(40000).fill(0)",
        "return 'ü'.repeat(33000)",
        "const a = ['xxxxxxxxxx']; let b = a; for (let i = 0; i < 40; i++) b = [b, b]; return b",
    ],
)
async def test_output_bomb_is_stopped(run: Run, code: str) -> None:
    with pytest.raises(Invalid, match="returned more than 65536 bytes of JSON; the setting `sandbox_output_bytes`"):
        await run(code)


@pytest.mark.parametrize(
    "code",
    [
        "(function f() { f() })()",
        "const f = () => f(); return [1].map(f)",
        "let a = []; for (let i = 0; i < 1e5; i++) a = [a]; return a",
        "return JSON.parse('['.repeat(1e5) + ']'.repeat(1e5))",
        "return JSON.parse('[')",
        "class A { toJSON() { return new A().toJSON() } } return new A()",
        "let a = []; for (let i = 0; i < 1e5; i++) a = [a]; return JSON.stringify(a)",
        "return 2n ** 100000000n",
        "return new RegExp('('.repeat(1e5) + ')'.repeat(1e5))",
        "return eval('('.repeat(1e5))",
        "return new Promise(() => {})",
        "Error.prototype.toString = () => { while (1); }; throw new Error('x')",
        "Object.prototype.toJSON = () => { throw 1 }; throw {}",
        "return 'x'.repeat(2 ** 30)",
    ],
)
async def test_exploding_script_harms_its_own_call_only(run: Run, code: str) -> None:
    with pytest.raises(Invalid):
        await run(code)
    assert (await run("return 1")).value == 1


ABSENT = """process require module exports std os print scriptArgs __loadScript fetch XMLHttpRequest WebAssembly
    Worker setTimeout SharedArrayBuffer Atomics __date_clock Deno Bun importScripts navigator"""


async def test_globals_are_absent(run: Run) -> None:
    names = ABSENT.split()
    seen = ", ".join(f"[typeof {name}, typeof globalThis['{name}']]" for name in names)
    found = (await run(f"return [{seen}]")).value
    assert isinstance(found, list)
    assert dict(zip(names, found, strict=True)) == {name: ["undefined", "undefined"] for name in names}


@pytest.mark.parametrize(
    "code",
    [
        "return this.constructor.constructor('return process')()",
        "return (async () => {}).constructor('return process')()",
        "return Function('return require(\"fs\")')()",
        "return [].constructor.constructor('return std')()",
        "return input.constructor.constructor('return os')()",
        "return await import('os')",
        "return await import('std')",
        "return await import('/etc/passwd')",
        "return await import('./__main__.py')",
        "import os from 'os'",
        "return Reflect.construct(Function, ['return process'])()",
        "return arguments.callee.caller.constructor('return process')()",
    ],
)
async def test_way_out_is_closed(run: Run, code: str) -> None:
    with pytest.raises(Invalid):
        await run(code, {})


POLLUTIONS = [
    "Object.prototype.polluted = 1",
    "Array.prototype.polluted = 1; Array.prototype.join = () => '\"stolen\"'",
    "globalThis.polluted = 1; var leak = 2",
    "Promise.prototype.then = function () { return this }",
    "JSON.stringify = () => '\"stolen\"'; JSON.parse = () => ({stolen: 1}); Reflect.apply = () => 1",
    "Object.defineProperty(Array.prototype, '0', { set() { throw 1 }, get() { return 'stolen' } })",
    "Object.defineProperty(Object.prototype, 'toJSON', { value() { return 'stolen' } })",
    "Object.freeze(Object.prototype); Object.freeze(globalThis)",
    "delete globalThis.Object; delete globalThis.JSON; delete globalThis.Promise",
    "eval('var polluted = 1'); Function('polluted = 1')()",
]


@pytest.mark.parametrize("code", POLLUTIONS)
async def test_nothing_survives_into_the_next_call(sandbox: Sandbox, run: Run, code: str) -> None:
    pristine = "return [typeof polluted, typeof leak, ({}).polluted, [1, [2]], Object.isFrozen(Object.prototype)]"
    await run("return 1")
    before = sandbox.pids
    await asyncio.gather(run(code), return_exceptions=True)
    assert (await run(pristine)).value == ["undefined", "undefined", None, [1, [2]], False]
    assert sandbox.pids == before, "the same process served all calls"


async def test_value_of_tampered_intrinsics_stays_within_the_protocol(run: Run) -> None:
    code = "JSON.stringify = () => '}{'; String.prototype.slice = () => { throw 1 }; return {a: 'b'}"
    assert (await run(code)).value == {"a": "b"}


async def test_many_hostile_scripts_leave_an_honest_one_alone(sandbox: Sandbox, run: Run) -> None:
    hostile = [asyncio.create_task(run("while (1);", tenant="org_b", timeout_ms=100)) for _ in range(12)]
    await asyncio.sleep(0.05)
    honest = await run("return input + 1", 1, tenant="org_a")
    assert honest.value == 2
    ended = sum(task.done() for task in hostile)
    assert ended <= len(hostile) // 2, "it did not queue behind all of them"
    results = await asyncio.gather(*hostile, return_exceptions=True)
    assert all(isinstance(result, Invalid) for result in results)
