"""What the tests of the sandbox share: small limits, one moment, and the type of the fixture `run`."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from dustrun.sandbox import SandboxLimits
from dustrun.sdk import ScriptResult

Run = Callable[..., Coroutine[Any, Any, ScriptResult]]
LIMITS = SandboxLimits(time_ms=300, memory_mb=24, output_bytes=65_536, processes=2)
NOW_MS = 1_700_000_000_000
