"""Runs scripts: a job out of code and input, an exact value or a clear error out of the answer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from dustrun import metrics
from dustrun.core.values import exact_json
from dustrun.sandbox import failure
from dustrun.sandbox.exchange import decode_value, encode_input
from dustrun.sandbox.limits import LOG_CHARS, LOG_LINES, Limits
from dustrun.sandbox.pool import Pool
from dustrun.sandbox.process import Broken, Process, TooSlow, command
from dustrun.sdk.context import ScriptResult

_ENGINE_LIMITS = {
    "out of memory": "memory",
    "[an error that cannot be shown]": "memory",  # so little was left that not even the message could be made
    "interrupted": "time",
}
"""Messages of QuickJS's `InternalError`. A script can throw the same and only misleads its own author."""


_WATCH = metrics.Watch(
    metrics.counter("dustrun_sandbox_scripts", "Scripts that were run.", "outcome"),
    metrics.histogram("dustrun_sandbox_seconds", "How long scripts took, with the wait for a process."),
)


class Sandbox:
    """The part that owns the processes. It starts them at first use; `stop` ends them."""

    def __init__(self, limits: Limits, worker: Callable[[], Sequence[str]] | None = None) -> None:
        self.limits = limits
        self._pool = Pool(limits, worker or (lambda: command(limits)))

    @property
    def pids(self) -> frozenset[int]:
        """The ids of its processes."""
        return frozenset(process.pid for process in self._pool.live)

    def script(self, *, tenant: str, now_ms: int, seed: str) -> BoundScript:
        """What one node gets as `ctx.script`: its organisation, its clock, and its chance from `seed`."""
        return BoundScript(self, tenant, now_ms, seed)

    async def describe(self) -> dict[str, str]:
        """Each protective layer of this machine: `active`, or why not. Starts a process when none has run yet."""
        process = await self._pool.acquire("")
        self._pool.release(process, clean=False)
        return dict(process.layers)

    async def stop(self) -> None:
        """Ends all processes; scripts under way fail as `Temporary`."""
        await self._pool.stop()

    async def run(self, job: Job, tenant: str) -> ScriptResult:
        """Runs one job. Raises `Invalid` for the script's faults and limits, `Temporary` if its process was lost."""
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
            raise failure.over_limit("time", self.limits, time_ms) from None
        except Broken as error:
            if error.args != ("it ended",):
                raise failure.nonsense() from None
            raise failure.died(await process.ended(), self.limits, time_ms) from None


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

    def frames(self, limits: Limits) -> tuple[bytes, bytes, bytes]:
        """Set-up, code and input as the worker reads them. Raises `Invalid` on what cannot be passed."""
        try:
            text, bigints = encode_input(self.input)
        except (ValueError, TypeError) as error:
            raise failure.invalid(f"The input cannot be passed to the script: {error}.", field="input") from None
        code = _code_bytes(self.code)
        if len(code) + len(text) > limits.input_bytes:
            raise failure.input_too_large(len(code) + len(text), limits)
        return self._setup(limits, bigints), code, text

    def _setup(self, limits: Limits, bigints: Any) -> bytes:
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
    """The code as UTF-8; the engine reads it up to the first NUL, so one inside would hide the rest."""
    if "\0" in code:
        raise failure.invalid("The code holds a NUL character; write it as \\0 in a string.")
    try:
        return code.encode()
    except UnicodeEncodeError:
        raise failure.invalid("The code holds half of a surrogate pair.") from None


def _read_head(text: bytes) -> dict[str, Any]:
    """The answer's head, or `Permanent` when a script managed to make its process say something else."""
    try:
        head = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise failure.nonsense() from None
    if not isinstance(head, dict) or not _well_formed(head):
        raise failure.nonsense()
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


def _result(head: dict[str, Any], value: bytes, job: Job, limits: Limits) -> ScriptResult:
    logs = head.get("logs", [])
    if "limit" in head:
        raise failure.over_limit(head["limit"], limits, job.time_ms)
    if "pending" in head:
        raise failure.invalid(
            "The script waits for a promise that nothing will settle: there are no timers and no I/O."
        )
    if "error" in head:
        limit = _ENGINE_LIMITS.get(head["error"]["message"])
        if limit is not None and head["error"]["name"] == "InternalError":
            raise failure.over_limit(limit, limits, job.time_ms, logs)
        if (head["error"]["name"], head["error"]["message"]) == ("", "null"):
            raise failure.thrown_null(limits, logs)
        raise failure.thrown(head, job.code)
    if "refused" in head:
        raise _refused(head["refused"], logs, job, limits)
    try:
        return ScriptResult(decode_value(value), tuple(logs))
    except exact_json.JsonError as error:
        raise failure.invalid(f"The script's value cannot be kept: {error}.", logs) from None


def _refused(refused: dict[str, str], logs: list[str], job: Job, limits: Limits) -> Exception:
    if refused["kind"] == "output":
        return failure.over_limit("output", limits, job.time_ms, logs)
    return failure.invalid(f"The script's {refused['message']}.", logs)
