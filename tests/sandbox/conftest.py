"""A sandbox with small limits, and a way to run one script in it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from dustrun.sandbox import Sandbox
from dustrun.sdk import ScriptResult
from sandbox.limits_in_tests import LIMITS, NOW_MS, Run


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    box = Sandbox(LIMITS)
    yield box
    await box.stop()


@pytest.fixture
def run(sandbox: Sandbox) -> Run:
    async def once(
        code: str, input: Any = None, *, tenant: str = "org_a", timeout_ms: int | None = None
    ) -> ScriptResult:
        return await sandbox.script(tenant=tenant, now_ms=NOW_MS, seed="key").run(code, input, timeout_ms)

    return once
