"""The three modes of a run as strategies: `live`, `dust`, `simulate`. One is chosen when a run is taken up.

Everything in the engine that depends on the mode asks its `RunMode`; no other engine file compares `Mode` values.
Outside of the engine a mode is data: what a start may do, which rows a run reads and writes, how a report shows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from dustrun import clock
from dustrun.core.run.state import Mode
from dustrun.core.workflow.definition import Node
from dustrun.engine.node.outcome import ASSUMED_INPUT, Carrier, Failed, Job, Outcome, Settled, request_facts
from dustrun.sdk import Effect

_REFUSED = 'The node says dust: "refuse": it does not run in a dust test.'


class RunMode:
    """Live: effects are carried out as they are. The other modes override what they change."""

    changes_outside: ClassVar[bool] = True
    """Writes and spends reach the outside, so an attempt that was cut off may have happened."""

    has_simulated_clock: ClassVar[bool] = False
    """Waits advance the run's clock instead of taking time, and nobody is asked."""

    has_simulated_chains: ClassVar[bool] = False
    """Nodes read and change simulated chains, which called runs share: a run that spends begins one node at a time,
    and every called run is waited for."""

    reports_passed: ClassVar[bool] = False
    """`run_finished` says whether the run passed, as a step of its version's ladder."""

    can_pass: ClassVar[bool] = True
    """Whether a run in which nothing failed and nothing was assumed counts as passed."""

    repeats_rehearsals: ClassVar[bool] = True
    """Nodes that say so use the answer of the run's rehearsal instead of asking anew."""

    logs_dust_plan: ClassVar[bool] = False
    """The dust plan is logged before the first signature."""

    def now(self, simulated_ms: int) -> int:
        """The run's clock in milliseconds UTC; without a simulated clock, the real one."""
        del simulated_ms
        return clock.now_ms()

    def uses_pinned(self, node: Node) -> bool:
        """Whether the node's pinned result replaces what it would do."""
        del node
        return False

    def carry(self, job: Job) -> Outcome | None:
        """Decides who carries the attempt out (`job.carrier`), or settles it without running its action."""
        if job.effect is Effect.SPEND:
            job.carrier = Carrier.OUTBOX
        return None

    def write_variable(self, node: Node, result: Mapping[str, Any], *, assumed: bool) -> Outcome | None:
        """Settles a node that writes a variable without the write; `result` is what stands for it. None: write.
        `assumed`: the value depends on an assumed one."""
        del node, result, assumed
        return None

    def refuses_connector(self, job: Job) -> bool:
        """Whether a node whose connector moves money must not run."""
        del job
        return False


class DustMode(RunMode):
    """Dust: real effects, with amounts of about a cent; nodes may say `dust: skip`, `run` or `refuse`. What depends on
    the example result of a skipped node is skipped too: nothing made up leaves."""

    reports_passed = True
    logs_dust_plan = True

    def carry(self, job: Job) -> Outcome | None:
        """A spend has its amounts scaled; a write runs unless its node says otherwise."""
        node = job.node.node
        if job.effect is Effect.SPEND and node.dust != "refuse" and not node.is_skipped_as_dust:
            job.carrier, job.is_dust = Carrier.OUTBOX, True
            if not job.assumed:
                return None
        if not job.is_outside:
            return None
        skips = job.assumed or node.dust == "skip" or (job.effect is Effect.SPEND and node.is_skipped_as_dust)
        facts = request_facts(job, sent=False)
        if job.assumed and job.effect is Effect.SPEND:
            facts = {**(facts or {}), **ASSUMED_INPUT}
        return _dust_choice(node, job.action.example_output, facts, skips=skips)

    def write_variable(self, node: Node, result: Mapping[str, Any], *, assumed: bool) -> Outcome | None:
        """The node's `dust` decides."""
        return _dust_choice(node, result, None, skips=assumed or node.dust == "skip")

    def refuses_connector(self, job: Job) -> bool:
        """A write is refused unless its node says `dust`: what it would move cannot be scaled."""
        return job.effect is Effect.WRITE and job.node.node.dust is None


def _dust_choice(node: Node, example: Any, facts: dict[str, Any] | None, *, skips: bool) -> Outcome | None:
    if node.dust == "refuse":
        return Failed("REFUSED", _REFUSED)
    if not skips:
        return None
    result = node.pinned if node.is_pinned else example
    return Settled(result, assumed=not node.is_pinned, facts=facts, note={"dust": "skipped"})


class SimulateMode(RunMode):
    """Simulate: reads are real, writes are recorded and not sent, spends run on simulated chains."""

    changes_outside = False
    has_simulated_clock = True
    has_simulated_chains = True
    reports_passed = True
    repeats_rehearsals = False

    def now(self, simulated_ms: int) -> int:
        """The simulated clock, which is never behind the real one."""
        return max(clock.now_ms(), simulated_ms)

    def uses_pinned(self, node: Node) -> bool:
        """Always, when the node has one."""
        return node.is_pinned

    def carry(self, job: Job) -> Outcome | None:
        """The pinned result, a simulated spend, or a write that stops before it sends."""
        node = job.node.node
        if node.is_pinned:
            return Settled(node.pinned, facts=request_facts(job, sent=False), note={"pinned": True})
        if job.effect is Effect.SPEND:
            job.carrier = Carrier.SIMULATION
        elif job.is_outside and not job.action.inside:
            job.carrier = Carrier.REHEARSAL
        return None


class BackTestMode(SimulateMode):
    """Simulate at a moment in the past: the clock starts there, and nothing counts as a rehearsal."""

    can_pass = False

    def __init__(self, behind_ms: int) -> None:
        self._behind_ms = behind_ms

    def now(self, simulated_ms: int) -> int:
        """The simulated clock, which is never behind the time since the run's moment."""
        return max(clock.now_ms() - self._behind_ms, simulated_ms)


_MODES: Final[Mapping[Mode, RunMode]] = {Mode.LIVE: RunMode(), Mode.DUST: DustMode(), Mode.SIMULATE: SimulateMode()}


def mode_of(mode: Mode, behind_ms: int | None = None) -> RunMode:
    """The strategy of a mode. `behind_ms`: how far the clock of a back-test is behind."""
    return _MODES[mode] if behind_ms is None else BackTestMode(behind_ms)
