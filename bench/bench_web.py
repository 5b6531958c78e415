"""What the web app costs a browser: sizes, first paint, the editor with many nodes, frames, keys, and long runs.

    scripts/bench web [--scale 1]

`scale` is how often each time is taken; the median counts. Chromium without a GPU draws with the processor, so frames
are the worst that a person gets. A machine that does something else at the same time gives other figures.
"""

from __future__ import annotations

import functools
import gzip
import json
import re
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import build_web
from playwright.sync_api import Browser, Page

from testkit.e2e.server import Server
from testkit.web.app import App, browsing

DEFAULT_SCALE = 3
_NODES = (7, 300, 1000)
_EVENTS = 5000
_SELECTED = 6
_LIMIT = "16000000"
_BUDGETS = {
    "first JS, kB": 170.0,
    "canvas, kB": 75.0,
    "form, kB": 130.0,
    "CSS, kB": 45.0,
    "ELK worker, kB": 480.0,
    "first paint, s": 0.3,
    "editor ready with 7 nodes, s": 1.0,
    "editor ready with 300 nodes, s": 1.2,
    "editor ready with 1000 nodes, s": 2.5,
    "pan with 300 nodes, p95 of frames, ms": 20.0,
    "pan with 1000 nodes, p95 of frames, ms": 50.0,
    "zoom with 1000 nodes, p95 of frames, ms": 50.0,
    "select among 1000 nodes, ms": 100.0,
    "key to paint, p95, ms": 50.0,
    "5000 events, s": 1.0,
    "5000 events, longest frame, ms": 100.0,
    "10 MB result, s": 2.0,
}
_FRAMES = """() => {
  window.__frames = []
  let last = performance.now()
  const tick = () => {
    const now = performance.now()
    window.__frames.push(now - last)
    last = now
    requestAnimationFrame(tick)
  }
  requestAnimationFrame(tick)
}"""
_KEYS = """() => {
  window.__keys = []
  addEventListener('keydown', (event) => {
    const begun = event.timeStamp
    requestAnimationFrame(() => setTimeout(() => window.__keys.push(performance.now() - begun)))
  }, true)
}"""
_CHOSEN = """() => {
  window.__chosen = []
  let begun = 0
  addEventListener('pointerdown', (event) => { begun = event.timeStamp }, true)
  const shown = () => document.querySelector('.inspector:has(.form)')?.ariaLabel
  let before = shown()
  new MutationObserver(() => {
    if (!shown() || shown() === before) return
    before = shown()
    requestAnimationFrame(() => setTimeout(() => window.__chosen.push(performance.now() - begun)))
  }).observe(document.body, { subtree: true, childList: true, attributes: true })
}"""
_IN_SIGHT = """() => [...document.querySelectorAll('.card')]
  .map((card) => [card, card.getBoundingClientRect()])
  .map(([card, { x, y, width, height }]) => [card, x + width / 2, y + height / 2])
  .filter(([card, x, y]) => x < 950 && document.elementFromPoint(x, y)?.closest('.card') === card)
  .map(([, x, y]) => [x, y])"""
_PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null"


def run(scale: int | None = None, seed: int = 1) -> dict[str, Any]:
    """Every figure of the budgets table beside its budget."""
    with tempfile.TemporaryDirectory(prefix="dustrun-web-") as folder, browsing() as browser:
        server = Server(Path(folder), max_body_bytes=_LIMIT, max_result_bytes=_LIMIT, max_loop_items=f"{_EVENTS}")
        try:
            server.start()
            found = _sizes() | _times(browser, server, scale or DEFAULT_SCALE)
            version = browser.version
        finally:
            server.close()
    over = [f"{name}: {found[name]}, more than {most}" for name, most in _BUDGETS.items() if found[name] > most]
    table = {name: {"measured": value, "budget": _BUDGETS.get(name)} for name, value in found.items()}
    return {"chromium": version, "figures": table, "failures": over}


def _sizes() -> dict[str, float]:
    """Of the built files, compressed."""
    page = (build_web.BUILT / "index.html").read_text()
    named = re.findall(r'(?:src|href)="/(assets/[^"]+)"', page)
    size = {path.name: len(gzip.compress(path.read_bytes())) / 1000 for path in build_web.BUILT.rglob("assets/*")}

    def of(*starts: str, suffix: str = ".js") -> float:
        return round(sum(kb for name, kb in size.items() if name.startswith(starts) and name.endswith(suffix)), 1)

    first = [Path(one).name for one in named if one.endswith(".js") and "scheme" not in one]
    return {
        "first JS, kB": round(sum(size[one] for one in first), 1),
        "canvas, kB": of("Canvas-"),
        "form, kB": of("Form-"),
        "CSS, kB": round(sum(size[Path(one).name] for one in named if one.endswith(".css")), 1),
        "ELK worker, kB": of("elk-worker"),
    }


def _times(browser: Browser, server: Server, times: int) -> dict[str, float]:
    app = App(browser, server).sign_in()
    page = app.page

    def median(measure: Callable[[], float]) -> float:
        return round(statistics.median(measure() for _ in range(times)), 3)

    found = {"first paint, s": median(lambda: _paint(app))}
    flows = {count: _chain(server, count) for count in _NODES}
    for count, workflow in flows.items():
        ready = functools.partial(_until, app, f"/workflows/{workflow}", ".card")
        found[f"editor ready with {count} nodes, s"] = median(ready)
    app.open(f"/workflows/{flows[300]}")
    page.locator(".card").first.wait_for()
    found["pan with 300 nodes, p95 of frames, ms"] = _pan(page)
    app.open(f"/workflows/{flows[1000]}")
    page.locator(".card").first.wait_for()
    found["select among 1000 nodes, ms"] = _select(page)
    found["pan with 1000 nodes, p95 of frames, ms"] = _pan(page)
    found["zoom with 1000 nodes, p95 of frames, ms"] = _zoom(page)
    found["key to paint, p95, ms"] = _type(app, server)
    run = _loop(server)
    shown, longest = [], []
    for _ in range(times):
        took, frame = _follow(app, run)
        shown.append(took)
        longest.append(frame)
    found["5000 events, s"] = round(statistics.median(shown), 3)
    found["5000 events, longest frame, ms"] = round(statistics.median(longest), 1)
    large = _large(server)
    found["10 MB result, s"] = median(lambda: _until(app, f"/runs/{large}?step=root", ".tree details"))
    app.close()
    return found


def _until(app: App, path: str, what: str) -> float:
    begun = time.perf_counter()
    app.page.goto(app.server.url + path)
    app.page.locator(what).first.wait_for()
    return time.perf_counter() - begun


def _paint(app: App) -> float:
    app.open("/workflows")
    return float(app.until(lambda: app.page.evaluate(_PAINT))) / 1000


def _chain(server: Server, count: int) -> str:
    """A tree of small steps, seven wide, so that a layout has something to do."""
    nodes: dict[str, Any] = {"root": {"type": "manual", "children": []}}
    for i in range(count - 1):
        nodes[f"s{i}"] = {"type": "log", "payload": {"message": f"{i}"}, "children": []}
        nodes["root" if i < 7 else f"s{i - 7}"]["children"].append(f"s{i}")
    return server.create_workflow({"nodes": nodes})


def _pan(page: Page) -> float:
    """95 of 100 frames are shorter than this while the canvas is dragged, drawn as a whole."""
    page.get_by_role("button", name="Fit View").click()
    page.wait_for_timeout(500)
    page.evaluate(_FRAMES)
    page.mouse.move(200, 700)
    page.mouse.down()
    for i in range(90):
        page.mouse.move(200 + i * 3, 700 - i * 2)
    page.mouse.up()
    return _p95(page.evaluate("window.__frames"))


def _zoom(page: Page) -> float:
    """95 of 100 frames are shorter than this while the wheel goes in and out again."""
    page.get_by_role("button", name="Fit View").click()
    page.wait_for_timeout(500)
    page.mouse.move(500, 500)
    page.evaluate(_FRAMES)
    for way in (-60, 60):
        for _ in range(30):
            page.mouse.wheel(0, way)
    return _p95(page.evaluate("window.__frames"))


def _select(page: Page) -> float:
    """From a click on a step to its settings, once those of another have been shown."""
    page.wait_for_timeout(500)
    first, *others = page.evaluate(_IN_SIGHT)[:_SELECTED]
    page.mouse.click(*first)
    page.locator(".inspector .form").wait_for()
    page.evaluate(_CHOSEN)
    for number, place in enumerate(others, 1):
        page.mouse.click(*place)
        while page.evaluate("window.__chosen.length") < number:
            page.wait_for_timeout(20)
    page.get_by_role("complementary").get_by_role("button", name="Close").click()
    return round(float(statistics.median(page.evaluate("window.__chosen"))), 1)


def _p95(values: list[float]) -> float:
    return round(sorted(values)[int(len(values) * 0.95)], 1)


def _type(app: App, server: Server) -> float:
    """Letters in an expression whose context, the last run, has more than a megabyte."""
    rows = [{"id": i, "name": f"row {i}", "text": "x" * 40} for i in range(15_000)]
    say = {"type": "format", "payload": {"template": "a"}}
    workflow = server.create_workflow({"nodes": {"root": {"type": "manual", "children": ["say"]}, "say": say}})
    _ended(app, server.start_run(workflow, payload={"rows": rows}))
    page = app.open(f"/workflows/{workflow}")
    page.locator(".card").filter(has_text="Say").click()
    field = page.get_by_role("textbox", name="Template")
    field.click()
    page.wait_for_timeout(1500)
    page.evaluate(_KEYS)
    page.keyboard.type(" {{$trigger.body.rows[3].name}} and what comes after it", delay=60)
    return _p95(page.evaluate("window.__keys"))


def _ended(app: App, run: str) -> str:
    app.until(lambda: app.server.call("GET", f"/v1/runs/{run}?summary=true")["finishedAt"])
    return run


def _loop(server: Server) -> str:
    items = (_EVENTS - 5) // 3
    nodes = {
        "root": {"type": "manual", "children": ["each"]},
        "each": {
            "type": "for-each",
            "payload": {"array": "{{$trigger.body.list}}", "maxItems": items},
            "loopBody": ["say"],
        },
        "say": {"type": "log", "payload": {"message": "{{$item}}"}},
    }
    run = server.start_run(server.create_workflow({"nodes": nodes}), payload={"list": list(range(items))})
    while not (found := server.call("GET", f"/v1/runs/{run}?summary=true"))["finishedAt"]:
        time.sleep(0.1)
    assert found["status"] == "success", found
    assert len(server.events_of(run)) >= _EVENTS - 5
    return run


def _follow(app: App, run: str) -> tuple[float, float]:
    """From the page's first sight of the run to its last event, and the longest frame meanwhile."""
    page = app.page
    page.goto(app.server.url + "/runs")
    page.get_by_role("heading", name="Runs").wait_for()
    page.evaluate(_FRAMES)
    begun = time.perf_counter()
    page.locator(f'a[href="/runs/{run}"]').click()
    page.get_by_role("group", name="Replay of the run").get_by_text("Run finished").wait_for()
    took = time.perf_counter() - begun
    return took, max(page.evaluate("window.__frames"))


def _large(server: Server) -> str:
    """The trigger's result has the payload twice: by itself and as `body`."""
    rows = [{"id": i, "text": "x" * 80} for i in range(50_000)]
    assert len(json.dumps(rows)) > 5_000_000
    return server.start_run(server.create_workflow({"nodes": {"root": {"type": "manual"}}}), payload={"rows": rows})
