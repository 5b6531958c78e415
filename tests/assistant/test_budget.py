"""What a turn may use."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from dustrun.assistant.budget import BudgetExceeded, TurnBudget
from dustrun.assistant.loop import turn_parts
from dustrun.assistant.toolbox import narrowed
from dustrun.sdk.llm.messages import ModelAnswer, ModelText, ModelToolCall, ToolReturn
from dustrun.services.access.principal import PERMISSIONS, Principal
from dustrun.settings import Settings


def budget(tmp_path: Path, others: str = "0", **settings: Any) -> TurnBudget:
    return TurnBudget(Settings(data_dir=tmp_path, **settings), Decimal(others))


def answered(cost: str) -> ModelAnswer:
    return ModelAnswer("x", (), "end", 10, 5, Decimal(cost))


def test_what_is_left_is_the_less_of_turn_and_day(tmp_path: Path) -> None:
    one, others, most = budget(tmp_path, "4.80"), Decimal("4.80"), Decimal("0.30")
    one.begin_request(1, others, most)
    assert (one.left, one.reserved) == (Decimal("0.20"), Decimal("0.20"))
    one.settle(answered("0.15"))
    assert (one.left, one.reserved, one.usage()["costUsd"]) == (Decimal("0.05"), Decimal(0), "0.15")
    one.begin_request(2, others, Decimal("0.01"))
    assert one.reserved == Decimal("0.01")  # no more than it may cost
    one.settle(answered("0.05"))
    with pytest.raises(BudgetExceeded) as caught:
        one.begin_request(3, others, most)
    assert caught.value.code == "BUDGET"


def test_equal_calls_end_after_the_third(tmp_path: Path) -> None:
    one = budget(tmp_path)
    for _ in range(3):
        one.begin_call("same")
    one.begin_call("other")
    with pytest.raises(BudgetExceeded) as caught:
        one.begin_call("same")
    assert caught.value.code == "TOOL_LOOP"


def test_call_without_a_result_is_told_as_cut_off() -> None:
    parts: list[dict[str, Any]] = [
        {"type": "text", "text": "I look."},
        {"type": "tool_call", "callId": "c1", "tool": "list_runs", "args": {"limit": 1}},
        {"type": "run", "runId": "run_1"},
    ]
    assert turn_parts(parts) == [
        ModelText("assistant", "I look."),
        ModelToolCall("c1", "list_runs", {"limit": 1}),
        ToolReturn("c1", "list_runs", '{"message":"interrupted"}'),
    ]


def test_assistant_has_at_most_the_rights_that_neither_write_nor_spend() -> None:
    everything = narrowed(Principal("key", "org", PERMISSIONS, frozenset({"wf"}), frozenset({"wal"})))
    assert everything.only_simulates
    assert not any(
        map(everything.may, ("workflow:publish", "workflow:execute", "wallet:spend", "approval:decide", "key:write"))
    )
    assert (everything.workflow_ids, everything.wallet_ids) == (frozenset({"wf"}), frozenset({"wal"}))
    assert narrowed(Principal("key", "org", frozenset({"run:read"}))).permissions == {"run:read"}
