"""Planted faults: mistakes that somebody could make, each put into a copy of the product, and the seed that finds it.

`scripts/simulate --mutants` tells for each after how many seeds it was found. A text that is not there exactly once is
an error: the product has changed, and so must the mutant.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
_SEED = re.compile(r"^SEED \d+:(\d+) is broken:\n  (\w+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Change:
    """In a file of `src/dustrun`, one text instead of another."""

    path: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """One mistake, in words and as changes."""

    name: str
    says: str
    changes: tuple[Change, ...]


def _of(name: str, says: str, *changes: tuple[str, str, str]) -> Mutant:
    return Mutant(name, says, tuple(Change(*one) for one in changes))


MUTANTS: Final = (
    _of(
        "repeats-interrupted-writes",
        "Recovery carries out an interrupted write again, although its receiver may have had it.",
        ("engine/run/attempts.py", "if is_once and action.effect_by is None:", "if False:"),
    ),
    _of(
        "forgets-begun-attempts",
        "Recovery does not see attempts that had begun and not ended.",
        (
            "storage/runs/journal.py",
            "    return [execution_of(row, unseal) for row in tx.all(_LIST, run_pk=run_pk)]",
            "    found = [execution_of(row, unseal) for row in tx.all(_LIST, run_pk=run_pk)]\n"
            '    return [one for one in found if one.status != "running"]',
        ),
    ),
    _of(
        "tells-before-the-commit",
        "The writer tells its waiters before the commit is on disk.",
        (
            "storage/db/group_commit.py",
            "        return partial(self._group_commit.commit_bare, group[:done], started)",
            "        for _ in Outcome(done=group[:done]).answers():\n            pass\n"
            "        for waiter in group[:done]:\n            waiter.after = None\n"
            "        return partial(self._group_commit.commit_bare, group[:done], started)",
        ),
    ),
    _of(
        "takes-a-lost-answer-for-unsent",
        "A write whose connection broke after it was sent counts as certainly not sent, and is retried.",
        ("outbound/progress.py", "if self.sent and not self.safe:", "if False:"),
    ),
    _of(
        "forgets-webhook-keys",
        "A webhook does not recognise a delivery that comes again.",
        (
            "services/triggers/inbound/webhooks.py",
            "key = given or webhook_senders.event_key(sub.config.auth, inbound.headers, payload) or good.key",
            "key = None",
        ),
    ),
    _of(
        "claims-no-idempotency-key",
        "A run call does not store its idempotency key with what it creates.",
        ("services/access/idempotency.py", "    return claimed\n", "    return unit\n"),
    ),
    _of(
        "decides-a-decided-question",
        "A decision on a question that is decided already counts too.",
        (
            "storage/runs/approvals.py",
            '    sa.update(approvals)\n    .where(approvals.c.id == b("the_id"), approvals.c.status == PENDING)\n'
            '    .values(\n        status=b("to_status"),',
            '    sa.update(approvals)\n    .where(approvals.c.id == b("the_id"))\n'
            '    .values(\n        status=b("to_status"),',
        ),
    ),
    _of(
        "skips-an-event-after-a-reconnect",
        "A stream that is opened again goes on one event too late.",
        (
            "api/routes/streams.py",
            "    after = sse.last_event_id(scope, query) or 0\n",
            "    found = sse.last_event_id(scope, query)\n    after = found + 1 if found else 0\n",
        ),
    ),
    _of(
        "takes-the-nonce-from-the-node",
        "The next nonce is what the endpoint says, whatever was signed before.",
        (
            "services/outbox/sender_queue.py",
            "nonce = max(floor, 0 if highest is None else highest + 1)",
            "nonce = floor",
        ),
        (
            "storage/money/transactions.py",
            "return max(floor, 0 if highest is None else int(highest) + 1)",
            "return floor",
        ),
    ),
    _of(
        "counts-only-settled-spends",
        "What is signed and not final yet does not count against a limit.",
        (
            "storage/money/reservations.py",
            "units = sum(int(row[0]) for row in open_ones if row[1] not in without)",
            "units = 0 * len(open_ones) * len(without)",
        ),
    ),
    _of(
        "final-at-once",
        "A receipt counts as final in the block in which it appears.",
        (
            "services/outbox/tracking/tracker.py",
            "elif head.number - block.number + 1 >= one.row.confirmations:",
            "elif head.number >= block.number:",
        ),
    ),
    _of(
        "masks-no-results",
        "What comes back from outside is stored as it came, with the secret that was sent.",
        (
            "engine/node/secrets.py",
            "        if not self._mask:\n            return outcome\n        return await",
            "        if outcome:\n            return outcome\n        return await",
        ),
    ),
)


def plant(mutant: Mutant, room: Path) -> Path:
    """A copy of the product with the mistake in it; raises `ValueError` where its text is not there once."""
    shutil.copytree(ROOT / "src" / "dustrun", room / "dustrun", ignore=shutil.ignore_patterns("__pycache__", "web"))
    for change in mutant.changes:
        path = room / "dustrun" / change.path
        text = path.read_text()
        if text.count(change.old) != 1:
            raise ValueError(
                f"{mutant.name}: {change.path} has its text {text.count(change.old)} times instead of once"
            )
        path.write_text(text.replace(change.old, change.new))
    return room


def hunt(mutant: Mutant, arguments: Sequence[str]) -> tuple[int, str] | None:
    """Runs worlds on the mutant until one is broken: its seed, and the invariant that saw it; None if none was."""
    with tempfile.TemporaryDirectory(prefix="mutant") as folder:
        room = plant(mutant, Path(folder))
        paths = os.pathsep.join((str(room), str(ROOT)))
        environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-m", "testkit.simulation.runner", "--until-broken", *arguments]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    found = _SEED.search(done.stdout)
    if found is None and done.returncode:
        raise RuntimeError(f"{mutant.name}: {done.stdout[-1000:]}{done.stderr[-2000:]}")
    return None if found is None else (int(found.group(1)), found.group(2))


def hunt_all(names: Sequence[str], arguments: Sequence[str]) -> int:
    """Hunts the named mutants, or all; prints a line for each, and returns how many were not found."""
    missed = []
    for mutant in MUTANTS:
        if not names or mutant.name in names:
            begun = time.monotonic()
            found = hunt(mutant, arguments)
            took = f"{time.monotonic() - begun:.0f} s"
            told = "NOT FOUND" if found is None else f"found by seed {found[0]}: {found[1]}"
            print(f"{mutant.name}: {told} ({took})", flush=True)
            missed += [] if found else [mutant.name]
    return len(missed)
