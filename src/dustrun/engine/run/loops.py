"""The result of a loop: the results of its items, in the items' order.

A loop never fails because its result is too large: beyond the limit of a node's result, results of later items are
omitted (their status stays), with very many items the items themselves; the counts always stay.
"""

from __future__ import annotations

from typing import Any

from dustrun.core.run.journal import Execution, Journal, item_frame
from dustrun.core.run.state import NodeStatus
from dustrun.core.values.exact_json import dumps_text
from dustrun.core.workflow.program import Program
from dustrun.records import dataclass

N = NodeStatus
Json = dict[str, Any]
_ROOM = 512


@dataclass(slots=True)
class LoopResult:
    """`text` is `result` as JSON; `failed` is the first item that failed."""

    result: Json
    text: str
    failed: Json | None
    assumed: bool


def result_of(program: Program, journal: Journal, path: str, count: int, most_bytes: int) -> LoopResult:
    """The result of a loop whose items have all ended."""
    loop = journal.by_path[path]
    body = program.graph.scopes[loop.node_id].node_ids
    items: list[Json] = []
    texts: list[str] = []
    assumed = loop.assumed
    counts = dict.fromkeys(("success", "partial", "failure", "skipped"), 0)
    for index in range(count):
        executed = _executed(journal, item_frame(path, index), body)
        assumed = assumed or any(execution.assumed for execution in executed)
        item = _iteration(program, index, executed, len(body))
        counts[item["status"]] += 1
        items.append(item)
        texts.append(dumps_text(item))
    failed = next((item for item in items if item["status"] == "failure"), None)
    further = _fit(items, texts, most_bytes - _ROOM)
    rest: Json = {"iterationCount": count, "counts": counts, **further}
    text = f'{{"iterations":[{",".join(texts)}],{dumps_text(rest)[1:]}'
    return LoopResult({"iterations": items, **rest}, text, failed, assumed)


def _executed(journal: Journal, frame: str, body: tuple[str, ...]) -> list[Execution]:
    found = (journal.by_path.get(frame + node_id) for node_id in body)
    return [execution for execution in found if execution is not None]


def _iteration(program: Program, index: int, executed: list[Execution], nodes: int) -> Json:
    """`nodes`: how many the body has. One that was cut off has fewer executions, or a cancelled one, and is partial."""
    iteration: Json = {"index": index, "status": "success" if executed or not nodes else "skipped"}
    if executed and (len(executed) < nodes or any(execution.status is N.CANCELLED for execution in executed)):
        iteration["status"] = "partial"
    iteration["results"] = {e.node_id: e.result for e in executed if e.status in (N.SUCCESS, N.PARTIAL)}
    for execution in executed:
        on_error = program.nodes[execution.node_id].node.on_error
        if execution.status is N.FAILURE and on_error == "fail":
            iteration["status"], iteration["error"] = "failure", execution.error
            break
        if execution.status is N.PARTIAL or (execution.status is N.FAILURE and on_error == "continue"):
            iteration["status"] = "partial"
    return iteration


def _fit(items: list[Json], texts: list[str], most: int) -> Json:
    """Shortens both lists in place until they fit in `most` bytes; the fields that report the omissions."""
    if _size(texts) <= most:
        return {}
    short = [{"index": item["index"], "status": item["status"], "resultsOmitted": True} for item in items]
    short_texts = [dumps_text(item) for item in short]
    left = most - _size(short_texts)
    omitted = 0
    for position, text in enumerate(texts):
        more = len(text.encode()) - len(short_texts[position])
        if more <= 0:
            continue
        if more <= left:
            left -= more
        else:
            items[position], texts[position] = short[position], short_texts[position]
            omitted += 1
    said: Json = {"resultsOmitted": omitted}
    if left < 0:
        said["iterationsOmitted"] = _cut(items, texts, most)
    return said


def _cut(items: list[Json], texts: list[str], most: int) -> int:
    size, kept = 0, 0
    while kept < len(texts) and size + len(texts[kept]) + 1 <= most:
        size += len(texts[kept]) + 1
        kept += 1
    cut = len(texts) - kept
    del items[kept:], texts[kept:]
    return cut


def _size(texts: list[str]) -> int:
    return sum(len(text) if text.isascii() else len(text.encode()) for text in texts) + len(texts)
