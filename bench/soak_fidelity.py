"""Random workflows, simulated through the API and then run live on the same state: every figure read by web3.py.

    scripts/soak fidelity [--scale 500] [--seed 1] [--strategies simulate-v1,trace-call] [--steps 14] [--workers 4]
                          [--minutes 30] [--keep FOLDER]

`scale` is how many workflows each strategy gets, in parts of 25; after `minutes` no more of them begin. Each part has a
node, a server and three wallets of its own; every second workflow runs under policies drawn for it, and another key
approves what they ask. With `keep`, finished parts are stored in that folder, and the same command goes on with the
others. What is drawn is in `bench/random_workflows.py`, `bench/calling_workflows.py` and `bench/drawn_policies.py`,
what is compared in `bench/workflow_fidelity.py`, what may differ in `bench/documented_differences.py`. The figures are
those of the named node and of no other. `scripts/soak chain_fidelity` is the same below the API, one transaction at a
time, where reverting transactions are really sent.
"""

from __future__ import annotations

import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from bench.calling_workflows import DEPTH, LOOPED, SHAPES
from bench.fidelity_tally import Tally
from bench.random_steps import KINDS
from bench.workflow_fidelity import run_worker
from testkit.chain.anvil import Anvil
from testkit.chain.contracts import World, build

DEFAULT_SCALE = 500
_PART = 25
_LEAST_SHARE_FAILING = 0.1
_LEAST_SHARE_CALLING = 0.3
_COUNTED_FROM = 200  # below, chance decides what is drawn
_LEAST_OF_EACH = 0.1  # of the workflows
_LEAST_TRANSACTIONS = 10  # a workflow
_POLICED = (
    "questions approved",
    "first of several refused",
    "middle of several refused",
    "last of several refused",
    "outflow.assets",
    "gas[0]",
    "several reasons",
)


@dataclass(frozen=True)
class Part:
    """So many workflows on one node. Parts of one seed and number draw the same, whatever the strategy."""

    strategy: str
    number: int
    workflows: int
    steps: int
    seed: int
    until: float

    def run(self, world: World, keep: Path | None) -> Tally:
        """Their tally: as it was kept, or found now."""
        name = f"{self.strategy}-{self.seed}-{self.steps}-{self.number}-{self.workflows}.json"
        if keep is not None and (keep / name).exists():
            return Tally.load(keep / name)
        found = run_worker(world, self.strategy, self.workflows, self.steps, self.seed, self.number, self.until)
        if keep is not None and found.workflows + len(found.failures) >= self.workflows:
            found.save(keep / name)
        return found


def run(
    scale: int | None = None,
    seed: int = 1,
    strategies: str = "simulate-v1,trace-call",
    steps: str = "14",
    workers: str = "4",
    minutes: str = "inf",
    keep: str | None = None,
) -> dict[str, Any]:
    """The tally of each strategy; `failures` are differences and quotas that were missed."""
    workflows = scale or DEFAULT_SCALE
    until = time.time() + 60 * float(minutes)
    parts = [
        Part(strategy, number, min(_PART, workflows - first), int(steps), seed, until)
        for number, first in enumerate(range(0, workflows, _PART))
        for strategy in strategies.split(",")
    ]
    with tempfile.TemporaryDirectory(prefix="dustrun-fidelity-") as folder, Anvil() as node:
        found = _compare(build(Path(folder)), parts, int(workers), keep)
        version = str(node.rpc("web3_clientVersion"))
    failures = [failure for tally in found.values() for failure in tally.failures]
    failures += [f"{name}: {miss}" for name, tally in found.items() for miss in _missed(tally, workflows)]
    return {"node": version, **{name: tally.public() for name, tally in found.items()}, "failures": failures[:40]}


def _compare(world: World, parts: list[Part], workers: int, keep: str | None) -> dict[str, Tally]:
    """So many parts at once: each waits for blocks most of the time."""
    folder = None if keep is None else Path(keep)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    found = {part.strategy: Tally() for part in parts}
    with ProcessPoolExecutor(min(workers, len(parts)), mp_context=get_context("spawn")) as pool:
        running = [(part.strategy, pool.submit(part.run, world, folder)) for part in parts]
        for strategy, one in running:
            found[strategy].add(one.result())
    return found


def _missed(tally: Tally, wanted: int) -> list[str]:
    missed = []
    if tally.workflows < wanted:
        missed.append(f"only {tally.workflows} of {wanted} workflows")
    if tally.failing < tally.steps * _LEAST_SHARE_FAILING:
        missed.append(f"only {tally.failing} of {tally.steps} steps were failing ones")
    return missed + (_too_few(tally) if tally.workflows >= _COUNTED_FROM else [])


def _too_few(tally: Tally) -> list[str]:
    missed = []
    if tally.calling < tally.workflows * _LEAST_SHARE_CALLING:
        missed.append(f"only {tally.calling} of {tally.workflows} workflows call others")
    if tally.deepest < DEPTH:
        missed.append(f"no calls {DEPTH} deep")
    if tally.transactions < tally.workflows * _LEAST_TRANSACTIONS:
        missed.append(f"only {tally.transactions} transactions")
    least = int(tally.workflows * _LEAST_OF_EACH)
    missed += [f"only {tally.policed[what]} {what}" for what in _POLICED if tally.policed[what] < least // 10]
    few = {kind: tally.kinds[kind] for kind in KINDS if tally.kinds[kind] < least}
    few |= {shape: tally.shapes[shape] for shape in SHAPES if tally.shapes[shape] < least}
    few |= {f"transactions of {kind}": tally.sent[kind] for kind in LOOPED if tally.sent[kind] < least}
    return missed + [f"only {count} of {what}" for what, count in few.items()]
