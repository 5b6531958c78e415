"""No pure action, with inputs at its limits, holds the event loop for 50 ms of processor time."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dustrun.sdk import Effect
from testkit.composition import Composition, composed
from testkit.loop_watch import LoopWatch, least_hold, watched
from testkit.run_drivers import Runs

MOST_S = 0.05
DATA = "{{$trigger.body.data}}"
ROWS = [{"n": number} for number in range(60_000)]
NAMES = [f"name {number % 997}" for number in range(60_000)]
DECIMALS = [0.5] * 200_000
DIGITS = ["9" * 900 for _ in range(1_000)]
WIDE = [{f"key {number}": number for number in range(40_000)}]
KEYS = [{"field": "n", "order": order, "numeric": True} for order in ("asc", "desc") * 5]
LETTERS = "ab " * 330_000

# action → pairs of the data in the trigger's payload, and the node's payload
CASES: dict[str, list[tuple[Any, dict[str, Any]]]] = {
    "code-transform": [(ROWS, {"code": "return input.map((one) => one.n)", "input": DATA})],
    "convert-from-units": [("9" * 70, {"units": DATA, "decimals": 18})],
    "convert-to-units": [("9" * 50, {"amount": DATA, "decimals": 18})],
    "filter": [
        (ROWS, {"array": DATA, "field": "n", "operator": "$gte", "value": 0}),
        (NAMES, {"array": DATA, "field": "$item", "operator": "$in", "value": NAMES[:3]}),
        (WIDE, {"array": DATA, "field": "kez 7", "operator": "$gt", "value": 0}),
    ],
    "format": [(NAMES, {"template": "%s" * 60_000, "values": DATA}), (LETTERS, {"template": DATA})],
    "group": [(NAMES, {"array": DATA}), (ROWS, {"array": DATA, "field": "n"})],
    "hash": [(ROWS, {"value": DATA}), (LETTERS, {"value": DATA, "algorithm": "keccak256"})],
    "html-extract": [
        ("<p>a</p>" * 49_000, {"html": DATA, "selector": "p", "operation": "all", "maxMatches": 10_000}),
        ("<p><b>a</b></p>" * 4_990, {"html": DATA, "selector": "p:has(b)", "operation": "all", "maxMatches": 10_000}),
    ],
    "list-max": [(DECIMALS, {"array": DATA})],
    "list-min": [(ROWS, {"array": DATA, "field": "n"}), (DIGITS, {"array": DATA, "numeric": True})],
    "log": [(ROWS, {"message": DATA}), (ROWS, {"message": "rows", "data": DATA})],
    "parse-csv": [
        ("1.5,2.5\n" * 30_000, {"text": DATA, "header": False, "columns": ["a", "b"], "numbers": ["a", "b"],
                                "maxRows": 100_000}),
        (",".join(f"c{number}" for number in range(1_000)) + "\n" + ("1," * 999 + "1\n") * 400, {"text": DATA}),
    ],
    "parse-xml": [
        (f"<a>{'<b/>' * 90_000}</a>", {"text": DATA}),
        ('<a>' + '<b c="1">text</b>' * 50_000 + '</a>', {"text": DATA, "lists": ["b"]}),
    ],
    "pluck": [
        (ROWS, {"array": DATA, "field": "n"}),
        (ROWS[:1_000], {"array": DATA, "fields": {f"f{number}": "n" for number in range(60)}}),
    ],
    "regex": [
        (LETTERS, {"text": DATA, "pattern": "[a-z]+", "operation": "replace", "replacement": "x", "maxMatches": 1_000}),
        ("ab " * 3_000, {"text": DATA, "pattern": "([a-z])([a-z])", "operation": "all", "maxMatches": 10_000}),
    ],
    "sort": [(ROWS, {"array": DATA, "by": KEYS}), (NAMES, {"array": DATA, "order": "desc"})],
}  # fmt: skip


async def _holds(runs: Runs, watch: LoopWatch, bodies: Iterator[tuple[str, bytes]]) -> dict[str, int]:
    """Which runs hold the loop too long, and for how many milliseconds."""
    found = {name: await least_hold(watch, functools.partial(runs.run, body), MOST_S) for name, body in bodies}
    return {name: round(held * 1000) for name, held in found.items() if held >= MOST_S}


async def test_no_sort_holds_the_loop(server: Composition) -> None:
    """The way of every pure action, whose cases are complete."""
    pure = {name for name, one in server.parts.catalog.actions.items() if one.effect is Effect.PURE}
    assert pure == set(CASES), "an action without a case, or a case without its action"
    await _drive(server, ["sort"])


@pytest.mark.long
async def test_no_pure_action_holds_the_loop(server: Composition) -> None:
    assert await _drive(server, CASES) == {"success", "failure"}


async def _drive(server: Composition, types: Iterable[str]) -> set[str]:
    """Runs the cases of these actions, and says how the runs ended."""
    runs = Runs(server)

    def bodies() -> Iterator[tuple[str, bytes]]:
        for type in types:
            for number, (data, payload) in enumerate(CASES[type]):
                yield f"{type} {number}", runs.body({"n": {"type": type, "payload": payload}}, data)

    with watched() as watch:
        assert await _holds(runs, watch, bodies()) == {}
    return runs.statuses


@pytest.mark.parametrize(
    "chosen",
    [
        ["switch", "call"],
        pytest.param(["for-each", "while", "side by side", "if", "simulated call"], marks=pytest.mark.long),
    ],
    ids=" ".join,
)
async def test_no_loop_test_choice_or_call_holds_the_loop(server: Composition, chosen: list[str]) -> None:
    """Nodes that each cost little or much: in loops, as tests, side by side, in called workflows, in each mode."""
    runs = Runs(server)
    heavy = {"type": "filter", "payload": {"array": DATA, "field": "n", "operator": "$gte", "value": 0}}
    work = "$trigger.body.data.map(x, x.n).filter(x, x % 7 == 0).size()"
    switch = [{"name": f"c{number}", "expression": f"{work} < {number}"} for number in range(100)]
    each = {"type": "for-each", "payload": {"array": [1, 2, 3], "concurrency": 3}, "loopBody": ["n"]}
    again = {"type": "for-each", "payload": {"first": 1, "next": f"{{{{$item + {work} * 0 + 1}}}}",
                                             "while": f"$item < 5 && {work} > 0"}, "loopBody": ["n"]}  # fmt: skip
    beside = {f"n{number}": {"type": "log", "payload": {"message": f"{{{{{work}}}}}"}} for number in range(30)}
    first = {"type": "log", "payload": {"message": 1}, "children": list(beside)}
    child = {"nodes": {"root": {"type": "manual", "children": ["n"]}, "n": heavy}, "triggerNodeIds": ["root"]}
    called = (await server.owner.create_workflow(child))["id"]
    call = {"type": "call-workflow", "payload": {"workflowId": called, "payload": {"data": DATA}}}
    live: dict[str, Any] = {}
    simulate, dust = {"simulate": True}, {"dustTest": True}
    cases: dict[str, tuple[dict[str, Any], Any, dict[str, Any]]] = {
        "for-each": ({"each": each, "n": heavy}, ROWS, live),
        "while": ({"each": again, "n": {"type": "log", "payload": {"message": "{{$item}}"}}}, ROWS[:4_000], dust),
        "side by side": ({"first": first, **beside}, ROWS[:4_000], simulate),
        "switch": ({"n": {"type": "switch", "payload": {"cases": switch}}}, ROWS[:4_000], dust),
        "if": ({"n": {"type": "if", "payload": {"expression": f"{work} > 5"}}}, ROWS[:4_000], live),
        "call": ({"n": call}, ROWS[:40_000], live),
        "simulated call": ({"n": call}, ROWS[:40_000], simulate),
    }
    with watched() as watch:
        bodies = (
            (name, runs.body(nodes, data, **mode)) for name, (nodes, data, mode) in cases.items() if name in chosen
        )
        assert await _holds(runs, watch, bodies) == {}
    assert runs.statuses == {"success"}


class _Answers(http.server.BaseHTTPRequestHandler):
    """Answers with 2.4 million bytes of JSON: on `/wrong` with an error status."""

    body = b"[" + b",".join([b"0.5"] * 600_000) + b"]"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(500 if self.path == "/wrong" else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, format: str, *args: Any) -> None:
        """No lines."""


@pytest.mark.parametrize("path", ["right", pytest.param("wrong", marks=pytest.mark.long)])
async def test_no_large_response_or_request_holds_the_loop(tmp_path: Path, store_url: str, path: str) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Answers) as outside:
        threading.Thread(target=outside.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{outside.server_port}"
        payload = {"method": "POST", "url": f"{url}/{path}", "json": DATA}
        async with composed(tmp_path, database_url=store_url, outbound_allow=("127.0.0.1",)) as server:
            runs = Runs(server)
            body = runs.body({"n": {"type": "http-request", "payload": payload}}, DECIMALS[:100_000])
            with watched() as watch:
                assert await _holds(runs, watch, iter([(path, body)])) == {}
        outside.shutdown()
    assert runs.statuses == {"failure"}, "the result is larger than a node may keep"
