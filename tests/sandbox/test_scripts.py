from __future__ import annotations

from typing import Any

import pytest

from dustrun.errors import DustrunError, Invalid
from dustrun.sandbox import Sandbox
from sandbox.limits_in_tests import NOW_MS, Run


async def failure(run: Run, code: str) -> Invalid:
    with pytest.raises(Invalid) as caught:
        await run(code)
    return caught.value


def line_of(error: DustrunError) -> int | None:
    return next((detail["line"] for detail in error.public_details() if "line" in detail), None)


@pytest.mark.parametrize(
    ("code", "message", "line"),
    [
        ("let x = @", "The script does not parse: SyntaxError: unexpected token in expression: '@' (line 1)", 1),
        ("let a = 1\n\nlet b = ]", "The script does not parse: SyntaxError: unexpected token in expression: ']'", 3),
        ("if (1) {\n", "The script does not parse: SyntaxError", 2),
        ("throw new TypeError('no price')", "The script threw: TypeError: no price (line 1)", 1),
        ("const a = null\n\nreturn a.b", "The script threw: TypeError: cannot read property 'b' of null (line 3)", 3),
        ("await null\n\n throw new Error('late')", "The script threw: Error: late (line 3)", 3),
        ("throw {code: 7}", 'The script threw: {"code":7}', None),
        ("throw null", "The script threw null, or needed more than", None),
        ("return {\n toJSON() {\n  throw new Error('json') } }", "The script threw: Error: json (line 3)", 3),
        ("return JSON.parse('{')", "The script threw: SyntaxError", 1),
        ("return input + 1n + 1", "The script threw: TypeError: cannot convert", 1),
        ("return missing", "The script threw: ReferenceError: 'missing' is not defined (line 1)", 1),
    ],
)
async def test_error_names_line_of_the_code(run: Run, code: str, message: str, line: int | None) -> None:
    error = await failure(run, code)
    assert error.message.startswith(message)
    assert line_of(error) == line


@pytest.mark.parametrize("code", ["let x = @", "throw new Error(new Error('x').stack)", "null.x", "JSON.parse('[')"])
async def test_error_holds_no_path_of_the_host(run: Run, code: str) -> None:
    error = await failure(run, code)
    assert "dustrun" not in repr((error.message, error.public_details()))
    assert ".py" not in error.message
    assert "driver" not in error.message


async def test_console_lines_come_with_the_value(run: Run) -> None:
    result = await run("console.log('a', 1, {b: 2n}, [null], undefined, new Error('x')); console.warn(1n); return 1")
    assert result.logs == ('a 1 {"b":2} [null] undefined Error: x', "1")


async def test_console_lines_come_with_an_error(run: Run) -> None:
    error = await failure(run, "console.log('before'); throw new Error('x')")
    assert {"logs": ["before"]} in error.public_details()


@pytest.mark.parametrize("code", ["for (let i = 0; i < 1e4; i++) console.log(i)", "console.log('x'.repeat(1e5), 1)"])
async def test_console_is_cut_at_its_limit(run: Run, code: str) -> None:
    logs = (await run(code)).logs
    assert logs[-1] == "[further lines are dropped]"
    assert len(logs) <= 101
    assert sum(map(len, logs)) < 17_000


async def test_clock_stands_at_the_start_of_the_node(run: Run) -> None:
    code = "return [Date.now(), +new Date(), new Date().constructor === Date, new Date(2020, 0).toISOString(), Date()]"
    value = (await run(code)).value
    text = "Tue Nov 14 2023 22:13:20 GMT+0000 (GMT)"
    assert value[:4] == [NOW_MS, NOW_MS, True, "2020-01-01T00:00:00.000Z"]
    assert text.startswith(value[4])


async def test_chance_is_the_same_for_the_same_seed_only(sandbox: Sandbox) -> None:
    async def draw(seed: str) -> Any:
        script = sandbox.script(tenant="org_a", now_ms=NOW_MS, seed=seed)
        return (await script.run("return [Math.random(), Math.random()]", None)).value

    first = await draw("run_1/node")
    assert first == await draw("run_1/node")
    assert first != await draw("run_2/node")
    assert all(0 <= number < 1 for number in first)


@pytest.mark.parametrize("code", ["return 1\0; throw 2", "return '\ud800'"])
async def test_code_that_the_engine_would_misread_is_refused(run: Run, code: str) -> None:
    with pytest.raises(Invalid):
        await run(code)
