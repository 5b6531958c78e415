"""Keys that start dry runs only: `workflow:simulate` without `workflow:execute`."""

from __future__ import annotations

import pytest

from dustrun.errors import Forbidden
from dustrun.services.access.api_keys import MCP, PRESETS
from dustrun.services.access.principal import Principal


def _key(*permissions: str) -> Principal:
    return Principal("key_1", "org_1", frozenset(permissions))


def test_the_right_to_execute_includes_the_right_to_simulate() -> None:
    assert [_key(one).may("workflow:simulate") for one in ("workflow:execute", "admin", "workflow:read")] == [
        True,
        True,
        False,
    ]
    assert not _key("workflow:simulate").may("workflow:execute")


@pytest.mark.parametrize(
    ("permissions", "may_run_live"),
    [
        (["workflow:simulate"], False),
        (["workflow:simulate", "run:inline"], False),
        (["run:inline"], True),
        (["workflow:execute", "workflow:simulate"], True),
        (["workflow:simulate", "admin"], True),
    ],
)
def test_a_simulating_key_starts_dry_runs_only(permissions: list[str], may_run_live: bool) -> None:
    key = _key(*permissions)
    key.need_mode(is_simulated=True)
    if may_run_live:
        key.need_mode(is_simulated=False)
    else:
        with pytest.raises(Forbidden, match="dry runs only"):
            key.need_mode(is_simulated=False)


def test_no_simulating_key_has_a_wider_one_within_it() -> None:
    maker = _key("workflow:simulate", "run:inline", "key:write")
    assert not _key("run:inline").is_within(maker)
    assert _key("run:inline", "workflow:simulate").is_within(maker)
    assert _key("workflow:simulate").is_within(_key("workflow:execute"))


def test_the_scope_for_assistants_neither_runs_live_nor_spends() -> None:
    key = _key(*MCP)
    assert PRESETS["mcp"] is MCP
    assert (key.only_simulates, key.may("workflow:execute"), key.may("wallet:spend"), key.may("key:write")) == (
        True,
        False,
        False,
        False,
    )
