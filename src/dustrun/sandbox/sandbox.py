"""Runs scripts: builds a job from code and input, and an exact value or an error from the answer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from dustrun import metrics
from dustrun.core.values import exact_json
from dustrun.records import dataclass
from dustrun.sandbox import exchange
from dustrun.sandbox.exchange import decode_value, encode_input
from dustrun.sandbox.limits import LOG_CHARS, LOG_LINES, SandboxLimits
from dustrun.sandbox.pool import Pool
from dustrun.sandbox.process import Broken, Process, TooSlow, command
from dustrun.sdk.context import ScriptResult

_ENGINE_LIMITS = {
    "out of memory": "memory",
    "[an error that cannot be shown]": "memory",  # too little memory was left to build the message
    "interrupted": "time",
}
"""Messages of QuickJS's `InternalError`. A script can throw the same, but misleads only its own author."""


_WATCH = metrics.Watch(
    metrics.counter("dustrun_sandbox_scripts", "Scripts that ran.", "outcome"),
    metrics.histogram("dustrun_sandbox_seconds", "Duration of scripts, including the wait for a process."),
)


class Sandbox:
    """Owns the pool of processes, which start at first use; `stop` ends them."""

    def __init__(self, limits: SandboxLimits, worker: Callable[[], Sequence[str]] | None = None) -> None:
        self.limits = limits
        self._pool = Pool(limits, worker or (lambda: command(limits)))

    @property
    def pids(self) -> frozenset[int]:
        """The ids of its processes."""
        return frozenset(process.pid for process in self._pool.live)

    def script(self, *, tenant: str, now_ms: int, seed: str) -> BoundScript:
        """The `ctx.script` of one node, with its organisation, a fixed clock, and random numbers from `seed`."""
        return BoundScript(self, tenant, now_ms, seed)

    async def describe(self) -> dict[str, str]:
        """Each protection layer with `active` or the reason why it is not. Starts a process if none has run yet."""
        process = await self._pool.acquire("")
        self._pool.release(process, clean=False)
        return dict(process.layers)

    async def stop(self) -> None:
        """Ends all processes; running scripts fail with `Temporary`."""
        await self._pool.stop()

    async def run(self, job: Job, tenant: str) -> ScriptResult:
        """Runs one job. Raises `Invalid` for script errors and exceeded limits, `Temporary` if its process was lost."""
        with _WATCH.of():
            return await self._run(job, tenant)

    async def _run(self, job: Job, tenant: str) -> ScriptResult:
        frames = job.frames(self.limits)
        process = await self._pool.acquire(tenant)
        clean = False
        try:
            answer = await self._call(process, frames, job.time_ms)
            head = _read_head(answer[0])
            clean = "limit" not in head
        finally:
            self._pool.release(process, clean=clean)
        return _result(head, answer[1], job, self.limits)

    async def _call(self, process: Process, frames: Sequence[bytes], time_ms: int) -> tuple[bytes, bytes]:
        try:
            return await process.call(frames, self.limits.wall_s(time_ms), self.limits.output_bytes)
        except TooSlow:
            raise exchange.over_limit("time", self.limits, time_ms) from None
        except Broken as error:
            if error.args != ("it ended",):
                raise exchange.nonsense() from None
            raise exchange.died(await process.ended(), self.limits, time_ms) from None


def missing_layers(layers: Mapping[str, str]) -> list[str]:
    """Those of `Sandbox.describe()` that this machine lacks, each with the reason."""
    return [f"{name} ({why})" for name, why in sorted(layers.items()) if why != "active"]


@dataclass(frozen=True, slots=True)
class BoundScript:
    """`sdk.Script` for one node of one run."""

    sandbox: Sandbox
    tenant: str
    now_ms: int
    seed: str

    async def run(self, code: str, input: Any, timeout_ms: int | None = None) -> ScriptResult:
        """Runs the body of an async function of `input`."""
        most = self.sandbox.limits.time_ms
        time_ms = most if timeout_ms is None else max(1, min(timeout_ms, most))
        return await self.sandbox.run(Job(code, input, time_ms, self.now_ms, self.seed), self.tenant)


@dataclass(frozen=True, slots=True)
class Job:
    """One call of one script."""

    code: str
    input: Any
    time_ms: int
    now_ms: int
    seed: str

    def frames(self, limits: SandboxLimits) -> tuple[bytes, bytes, bytes]:
        """The three frames of a job: set-up, code and input. Raises `Invalid` for values that cannot be passed."""
        try:
            text, bigints = encode_input(self.input)
        except (ValueError, TypeError) as error:
            raise exchange.invalid(f"The input cannot be passed to the script: {error}.", field="input") from None
        code = _code_bytes(self.code)
        if len(code) + len(text) > limits.input_bytes:
            raise exchange.input_too_large(len(code) + len(text), limits)
        return self._setup(limits, bigints), code, text

    def _setup(self, limits: SandboxLimits, bigints: Any) -> bytes:
        digest = hashlib.sha256(self.seed.encode()).digest()
        return orjson.dumps(
            {
                "limits": {
                    "cpuMs": self.time_ms,
                    "memoryBytes": limits.memory_bytes,
                    "outputBytes": limits.output_bytes,
                },
                "outputChars": limits.output_bytes,
                "logLines": LOG_LINES,
                "logChars": LOG_CHARS,
                "now": self.now_ms,
                "seed": [int.from_bytes(digest[at : at + 4], "big") for at in (0, 4, 8, 12)],
                "bigints": bigints,
            }
        )


def _code_bytes(code: str) -> bytes:
    """The code as UTF-8. A NUL is rejected because the engine stops reading there."""
    if "\0" in code:
        raise exchange.invalid("The code contains a NUL character; write it as \\0 in a string.")
    try:
        return code.encode()
    except UnicodeEncodeError:
        raise exchange.invalid("The code contains a lone surrogate, which has no UTF-8 encoding.") from None


def _read_head(text: bytes) -> dict[str, Any]:
    """Parses the answer's head; raises `Permanent` if it is malformed, since the script then controls the process."""
    try:
        head = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise exchange.nonsense() from None
    if not isinstance(head, dict) or not _well_formed(head):
        raise exchange.nonsense()
    return head


def _well_formed(head: dict[str, Any]) -> bool:
    if "limit" in head:
        return head["limit"] in ("time", "memory", "output")
    if "pending" in head:
        return True
    logs = head.get("logs")
    if not isinstance(logs, list) or not all(isinstance(line, str) for line in logs):
        return False
    if "error" in head:
        return _all_text(head["error"], "name", "message", "phase", "stack")
    return head.get("ok") is True or _all_text(head.get("refused"), "kind", "message")


def _all_text(value: Any, *names: str) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(name), str) for name in names)


def _result(head: dict[str, Any], value: bytes, job: Job, limits: SandboxLimits) -> ScriptResult:
    logs = head.get("logs", [])
    if "limit" in head:
        raise exchange.over_limit(head["limit"], limits, job.time_ms)
    if "pending" in head:
        raise exchange.invalid("The script awaits a promise that never settles: there are no timers and no I/O.")
    if "error" in head:
        limit = _ENGINE_LIMITS.get(head["error"]["message"])
        if limit is not None and head["error"]["name"] == "InternalError":
            raise exchange.over_limit(limit, limits, job.time_ms, logs)
        if (head["error"]["name"], head["error"]["message"]) == ("", "null"):
            raise exchange.thrown_null(limits, logs)
        raise exchange.thrown(head, job.code)
    if "refused" in head:
        raise _refused(head["refused"], logs, job, limits)
    try:
        return ScriptResult(decode_value(value), tuple(logs))
    except exact_json.JsonError as error:
        raise exchange.invalid(f"The script's return value cannot be stored: {error}.", logs) from None


def _refused(refused: dict[str, str], logs: list[str], job: Job, limits: SandboxLimits) -> Exception:
    if refused["kind"] == "output":
        return exchange.over_limit("output", limits, job.time_ms, logs)
    return exchange.invalid(f"The script's {refused['message']}.", logs)
