from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from dustrun.engine.node.roots import until_known
from dustrun.errors import CommitUnknown, StoreUnavailable, Temporary


def _call(*errors: Exception) -> tuple[list[Exception], Callable[[], Awaitable[str]]]:
    left = list(errors)

    async def call() -> str:
        if left:
            raise left.pop(0)
        return "done"

    return left, call


async def test_a_call_of_unknown_outcome_is_repeated_until_the_store_answers() -> None:
    left, call = _call(CommitUnknown("?"), StoreUnavailable("away"))
    assert (await until_known(call), left) == ("done", [])


async def test_a_call_that_has_certainly_done_nothing_is_not_repeated() -> None:
    left, call = _call(StoreUnavailable("away"), Temporary("not reached"))
    with pytest.raises(StoreUnavailable):
        await until_known(call)
    assert len(left) == 1


async def test_a_call_does_not_go_on_for_ever_once_another_process_has_the_run() -> None:
    left, call = _call(CommitUnknown("?"), Temporary("Another server process has taken over this run."))
    with pytest.raises(Temporary, match="taken over"):
        await until_known(call)
    assert left == []
