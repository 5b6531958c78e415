from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, cast

import pytest

from dustrun.actions.data.code_transform import Input, Output, code_transform
from dustrun.sandbox import Sandbox, SandboxLimits
from dustrun.sdk import Context, Effect, Script


@dataclass(frozen=True)
class OnlyScript:
    """The part of a context that this action uses."""

    script: Script


@pytest.fixture
async def ctx() -> AsyncIterator[Context]:
    sandbox = Sandbox(SandboxLimits())
    yield cast(Context, OnlyScript(sandbox.script(tenant="org_a", now_ms=0, seed="key")))
    await sandbox.stop()


async def transform(ctx: Context, payload: dict[str, Any]) -> dict[str, Any]:
    output = await code_transform.run(Input.model_validate(payload), ctx)
    assert isinstance(output, Output)
    return output.model_dump(by_alias=True)


async def test_example_gives_its_example_output(ctx: Context) -> None:
    assert await transform(ctx, code_transform.example_input) == code_transform.example_output


async def test_amount_in_wei_stays_exact(ctx: Context) -> None:
    payload = {"code": "return input.wei / 3n", "input": {"wei": 10**18 + 1}}
    assert await transform(ctx, payload) == {"value": (10**18 + 1) // 3, "logs": []}


async def test_code_without_input_sees_null(ctx: Context) -> None:
    assert await transform(ctx, {"code": "console.log(input)"}) == {"value": None, "logs": ["null"]}


def test_code_is_never_read_as_a_template() -> None:
    assert code_transform.raw_fields == {"code"}
    assert code_transform.effect is Effect.PURE
