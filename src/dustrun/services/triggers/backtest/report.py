"""What a back-test found: a line per event, the sum of effects, and what was refused."""

from __future__ import annotations

import hashlib
from typing import Any

from dustrun.core.run.effect_sums import EffectSums
from dustrun.core.run.state import RUN_OPEN, RunStatus
from dustrun.core.values.exact_json import loads_own
from dustrun.errors import Code, NotFound
from dustrun.services.access.principal import Principal
from dustrun.services.runs.reporting.reports import RunReports
from dustrun.storage.triggers.backtests import BacktestRow

Json = dict[str, Any]
_MOST_IDS = 5
_NO_STATE = (
    "No endpoint has the chain's state of that moment: full nodes keep about 128 blocks, an archive node keeps all. "
    "Configure one in `chain_endpoints`."
)


class BacktestReport:
    """Reads the runs of a back-test."""

    def __init__(self, reports: RunReports) -> None:
        self._reports = reports

    async def make(self, principal: Principal, row: BacktestRow) -> Json:
        """The report over the runs so far."""
        sums, events, refused = EffectSums(), list[Json](), dict[str, Json]()
        for place, shown in enumerate(loads_own(row.events)):
            line = {"key": shown["key"], "occurredAt": shown["occurredAt"], "blocks": shown["blocks"]}
            line |= {"skipped": shown["skip"], "runId": None, "status": None, "error": None}
            if shown["skip"] is None:
                await self._add(principal, run_id_of(row.id, place), line, (sums, refused))
            events.append(line)
        lost = refused.get(Code.SIM_FORK_LOST.name)
        return {
            "events": events,
            "totals": sums.public(),
            "skipped": _counted(one["skipped"] for one in events if one["skipped"] is not None),
            "refused": list(refused.values()),
            "stateMissing": {"count": 0 if lost is None else lost["count"], "message": _NO_STATE if lost else None},
        }

    async def _add(
        self, principal: Principal, run_id: str, line: Json, kept: tuple[EffectSums, dict[str, Json]]
    ) -> None:
        sums, refused = kept
        try:
            report = await self._reports.effects(principal, run_id)
        except NotFound:  # not begun yet, or removed since
            return
        line |= {"runId": run_id, "status": report["status"]}
        if RunStatus(report["status"]) in RUN_OPEN:
            return
        sums.add(report)
        failed = [one for one in report["notPassed"] if one["code"] == "NODE_FAILED"]
        for one in failed:
            code, _, message = one["message"].partition(": ")
            line["error"] = line["error"] or {"code": code, "message": message, "path": one["path"]}
            _note(refused, code, message, run_id)


def _note(refused: dict[str, Json], code: str, message: str, run_id: str) -> None:
    found = refused.setdefault(code, {"code": code, "message": message, "count": 0, "runIds": []})
    found["count"] += 1
    if len(found["runIds"]) < _MOST_IDS:
        found["runIds"].append(run_id)


def _counted(reasons: Any) -> Json:
    counts: dict[str, int] = {}
    for reason in reasons:
        counts[reason] = counts.get(reason, 0) + 1
    return counts


def run_id_of(backtest_id: str, place: int) -> str:
    """The id of the run of an event, so that no event is simulated twice."""
    return f"run_{hashlib.sha256(f'{backtest_id} {place}'.encode()).hexdigest()[:40]}"
