"""The decisions of a workflow's life, as functions of its row."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dustrun.errors import Conflict, NotFound
from dustrun.services.workflows import transitions as life
from dustrun.storage.workflows.workflows import WorkflowRow

ROW = WorkflowRow(
    id="wf_1",
    org_id="org_1",
    name="flow",
    description="",
    status="active",
    paused_reason=None,
    latest_version=3,
    draft_version=3,
    live_version=2,
    max_runs=10,
    remain_runs=4,
    cooldown_ms=None,
    require_rehearsal="none",
    concurrency=None,
    enforce_rehearsal=None,
    acceptances=0,
    ui_metadata=None,
    owner="key_1",
    created_at=1,
    updated_at=1,
)

rows = st.builds(
    lambda status, draft, live, remain: replace(
        ROW, status=status, draft_version=draft, live_version=live, remain_runs=remain
    ),
    st.sampled_from(["draft", "active", "paused", "archived"]),
    st.sampled_from([None, 3]),
    st.sampled_from([None, 1, 2]),
    st.integers(0, 10),
)


@pytest.mark.parametrize(
    ("now", "then", "cap", "remain"),
    [(10, 15, 15, 9), (10, 5, 5, 0), (10, 7, 7, 1), (None, 5, 5, 5), (10, None, None, None)],
)
def test_a_new_cap_moves_the_counter_along(
    now: int | None, then: int | None, cap: int | None, remain: int | None
) -> None:
    row = replace(ROW, max_runs=now, remain_runs=4 if now else None)
    assert life.decide_max_runs(row, then) == {"max_runs": cap, "remain_runs": remain}


def test_the_current_version_is_the_draft_else_the_live_one() -> None:
    assert ROW.current_version == 3
    assert replace(ROW, draft_version=None).current_version == 2
    assert replace(ROW, draft_version=None, live_version=None).current_version == 3


def test_archive_keeps_what_was_shown_rather_than_a_discarded_draft() -> None:
    discarded = replace(ROW, draft_version=None)
    archived = replace(discarded, **life.decide_archive(discarded))
    assert (archived.current_version, archived.live_version) == (2, None)
    assert replace(archived, **life.decide_unarchive(archived)).draft_version == 2


@given(row=rows)
def test_every_decision_is_a_refusal_or_keeps_the_row_in_order(row: WorkflowRow) -> None:
    for decide in (
        life.decide_pause,
        life.decide_resume,
        life.decide_discard,
        life.decide_archive,
        life.decide_unarchive,
        lambda now: life.decide_refill(now, 5),
    ):
        try:
            then = replace(row, **decide(row))
        except (Conflict, NotFound):
            continue
        assert then.status != "archived" or then.live_version is None or then == row
        assert then.latest_version == row.latest_version
        assert then.status != "active" or then.remain_runs != 0 or row.status == "active"
