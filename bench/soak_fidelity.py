"""Random workflows, simulated through the API and then run live on the same state: every figure read by web3.py.

    scripts/soak fidelity [--scale 1000] [--seed 1] [--strategies simulate-v1,trace-call] [--steps 14] [--workers 4]
                          [--minutes 30]

`scale` is how many workflows each strategy gets; after `minutes` no more of them begin. Each worker is a process with a
node, a server and three wallets of its own. What is drawn is in `bench/random_workflows.py`, what is compared in
`bench/workflow_fidelity.py`. The figures are those of the named node and of no other. `scripts/soak chain_fidelity` is
the same below the API, one transaction at a time, where reverting transactions are really sent.
"""

from __future__ import annotations

import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from bench.random_workflows import KINDS
from bench.workflow_fidelity import Tally, run_worker
from testkit.chain.anvil import Anvil
from testkit.chain.contracts import World, build

DEFAULT_SCALE = 1000
_LEAST_SHARE_FAILING = 0.1
_LEAST_OF_EACH = 200
_LEAST_TRANSACTIONS = 10_000


def run(
    scale: int | None = None,
    seed: int = 1,
    strategies: str = "simulate-v1,trace-call",
    steps: str = "14",
    workers: str = "4",
    minutes: str = "inf",
) -> dict[str, Any]:
    """The tally of each strategy; `failures` are differences and quotas that were missed."""
    workflows = scale or DEFAULT_SCALE
    with tempfile.TemporaryDirectory(prefix="dustrun-fidelity-") as folder, Anvil() as node:
        world = build(Path(folder))
        shared = min(int(workers), workflows)
        until = time.time() + 60 * float(minutes)
        found = _compare(world, strategies.split(","), workflows, int(steps), seed, shared, until)
        version = str(node.rpc("web3_clientVersion"))
    failures = [failure for tally in found.values() for failure in tally.failures]
    failures += [f"{name}: {miss}" for name, tally in found.items() for miss in _missed(tally, workflows)]
    return {"node": version, **{name: tally.public() for name, tally in found.items()}, "failures": failures[:40]}


def _compare(
    world: World, strategies: list[str], workflows: int, steps: int, seed: int, workers: int, until: float
) -> dict[str, Tally]:
    """All workers of all strategies at once: each waits for blocks most of the time."""
    shares = [workflows // workers + (worker < workflows % workers) for worker in range(workers)]
    found = {strategy: Tally() for strategy in strategies}
    with ProcessPoolExecutor(workers * len(strategies), mp_context=get_context("spawn")) as pool:
        running = {
            pool.submit(run_worker, world, strategy, share, steps, seed, worker, until): strategy
            for strategy in strategies
            for worker, share in enumerate(shares)
        }
        for one, strategy in running.items():
            found[strategy].add(one.result())
    return found


def _missed(tally: Tally, wanted: int) -> list[str]:
    missed = []
    if tally.workflows < wanted:
        missed.append(f"only {tally.workflows} of {wanted} workflows")
    if tally.failing < tally.steps * _LEAST_SHARE_FAILING:
        missed.append(f"only {tally.failing} of {tally.steps} steps were failing ones")
    if tally.workflows >= DEFAULT_SCALE:
        if tally.transactions < _LEAST_TRANSACTIONS:
            missed.append(f"only {tally.transactions} transactions")
        few = {kind: tally.kinds[kind] for kind in KINDS if tally.kinds[kind] < _LEAST_OF_EACH}
        missed += [f"only {count} of {kind}" for kind, count in few.items()]
    return missed
