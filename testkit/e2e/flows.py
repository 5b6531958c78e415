"""Workflows of the e2e tests: they need nothing outside of the server."""

from __future__ import annotations

from typing import Any

# what breaks careless readers of a stream: line ends of Unicode, of SSE, quotes, and characters of four bytes
AWKWARD = 'one\ntwo\r\nthree \u2028 four \u2029 "five" \\n data: six 🦀 \u0085'


def chain(steps: int, pause_ms: int = 0) -> dict[str, Any]:
    """`steps` lines of log one after the other, with a pause before each but the first."""
    nodes: dict[str, Any] = {"root": {"type": "manual", "children": ["say_1"]}}
    for step in range(1, steps + 1):
        say: dict[str, Any] = {"type": "log", "payload": {"message": f"{step}: {AWKWARD}"}}
        nodes[f"say_{step}"] = say
        if step < steps and pause_ms:
            say["children"] = [f"pause_{step}"]
            nodes[f"pause_{step}"] = {
                "type": "delay",
                "payload": {"delayMs": pause_ms},
                "children": [f"say_{step + 1}"],
            }
        elif step < steps:
            say["children"] = [f"say_{step + 1}"]
    return {"nodes": nodes, "triggerNodeIds": ["root"]}


def loop(items: int, message: str = "item", pause_ms: int = 0, concurrency: int = 20) -> dict[str, Any]:
    """After a pause, one line of log for each of `items`: many events in little time."""
    return {
        "nodes": {
            "root": {"type": "manual", "children": ["pause"]},
            "pause": {"type": "delay", "payload": {"delayMs": pause_ms}, "children": ["each"]},
            "each": {
                "type": "for-each",
                "payload": {"array": list(range(items)), "concurrency": concurrency},
                "loopBody": ["say"],
            },
            "say": {"type": "log", "payload": {"message": message}},
        },
        "triggerNodeIds": ["root"],
    }
