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
    world: str = ""
    """The parts of the worlds in which it is hunted; else the usual ones."""


def of(name: str, says: str, *changes: tuple[str, str, str], world: str = "") -> Mutant:
    """One mistake, by its changes: file, text, and what is there instead."""
    return Mutant(name, says, tuple(Change(*one) for one in changes), world)


MUTANTS: Final = (
    of(
        "repeats-interrupted-writes",
        "Recovery carries out an interrupted write again, although its receiver may have had it.",
        ("engine/run/attempts.py", "if is_once and action.effect_by is None:", "if False:"),
    ),
    of(
        "forgets-begun-attempts",
        "Recovery does not see attempts that had begun and not ended.",
        (
            "storage/runs/journal.py",
            "    return executions_of(tx.all(_LIST, run_pk=run_pk), reading_of(tx, run_pk) if reading is None else "
            "reading)",
            "    found = executions_of(tx.all(_LIST, run_pk=run_pk), reading or reading_of(tx, run_pk))\n"
            '    return [one for one in found if one.status != "running"]',
        ),
    ),
    of(
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
    of(
        "takes-a-lost-answer-for-unsent",
        "A write whose connection broke after it was sent counts as certainly not sent, and is retried.",
        ("outbound/progress.py", "if self.sent and not self.safe:", "if False:"),
    ),
    of(
        "forgets-webhook-keys",
        "A webhook does not recognise a delivery that comes again.",
        (
            "services/triggers/inbound/webhooks.py",
            "key = given or webhook_senders.event_key(sub.config.auth, inbound.headers, payload) or good.key",
            "key = None",
        ),
    ),
    of(
        "claims-no-idempotency-key",
        "A run call does not store its idempotency key with what it creates.",
        ("services/access/idempotency.py", "    return claimed\n", "    return unit\n"),
    ),
    of(
        "decides-a-decided-question",
        "A decision on a question that is decided already counts too.",
        (
            "storage/runs/approvals.py",
            '    sa.update(approvals)\n    .where(approvals.c.id == b("the_id"), approvals.c.status == PENDING)\n'
            '    .values(\n        status=b("to_status"),',
            '    sa.update(approvals)\n    .where(approvals.c.id == b("the_id"))\n'
            '    .values(\n        status=b("to_status"),',
        ),
        (
            "services/runs/approvals.py",
            "is_open = row.status == PENDING and not is_answered(tx, row.run_pk, row.path)",
            "is_open = True",
        ),
    ),
    of(
        "skips-an-event-after-a-reconnect",
        "A stream that is opened again goes on one event too late.",
        (
            "api/routes/streams.py",
            "    after = sse.last_event_id(scope, query) or 0\n",
            "    found = sse.last_event_id(scope, query)\n    after = found + 1 if found else 0\n",
        ),
    ),
    of(
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
    of(
        "counts-only-settled-spends",
        "What is signed and not final yet does not count against a limit.",
        (
            "storage/money/reservations.py",
            "units = sum(int(row[0]) for row in open_ones if row[1] not in without)",
            "units = 0 * len(open_ones) * len(without)",
        ),
    ),
    of(
        "final-at-once",
        "A receipt counts as final in the block in which it appears.",
        (
            "services/outbox/tracking/tracker.py",
            "elif head.number - block.number + 1 >= one.row.confirmations:",
            "elif head.number >= block.number:",
        ),
    ),
    of(
        "masks-no-results",
        "What comes back from outside is stored as it came, with the secret that was sent.",
        (
            "engine/node/secrets.py",
            "        if not self._mask:\n            return outcome\n        return await",
            "        if outcome:\n            return outcome\n        return await",
        ),
    ),
    of(
        "times-out-what-was-answered",
        "A question that was decided in its last moment expires all the same.",
        (
            "storage/runs/waits.py",
            "    if any(is_answered(tx, run_pk, path) for path in waits.expired):",
            "    if False:",
        ),
    ),
    of(
        "counts-an-approval-twice",
        "One key that approves twice counts as two hands.",
        ("services/runs/approvals.py", "                _check_votes(tx, principal, row)\n", ""),
    ),
    of(
        "takes-one-hand-for-enough",
        "The first hand decides, however many a policy wants.",
        ("services/runs/approvals.py", "if is_open and count < quorum:", "if is_open and count < 1:"),
    ),
    of(
        "forgets-settled-spends",
        "A limit counts what is open, and not what was paid within its window.",
        (
            "storage/money/reservations.py",
            "        return units + int(last[0]) - (int(before[0]) if before is not None else 0)\n\n    def first_seen",
            "        return units\n\n    def first_seen",
        ),
    ),
    of(
        "publishes-before-the-commit",
        "Readers of a stream are told of events that are not on disk yet.",
        (
            "engine/run/commit.py",
            "            return self._write(tx, batch)\n",
            "            events = self._write(tx, batch)\n            self._publish(events)\n"
            "            return events\n",
        ),
    ),
    of(
        "repeats-an-event-after-a-reconnect",
        "A stream that is opened again goes on one event too early.",
        (
            "api/routes/streams.py",
            "    after = sse.last_event_id(scope, query) or 0\n",
            "    after = max(0, (sse.last_event_id(scope, query) or 0) - 1)\n",
        ),
    ),
    of(
        "skips-missed-fires",
        "A schedule that is to make up for all missed fires drops them.",
        ("core/triggers/schedules/due.py", 'if late.policy.on_missed == "all":', "if False:"),
    ),
    of(
        "moves-no-cursor",
        "An event is recorded, and its trigger's cursor stays where it was, also when the event comes again.",
        (
            "services/triggers/recording.py",
            "moved = _moved(self._locked, self.move) if self.move is not None else {}",
            "moved: dict[str, object] = {}",
        ),
        (
            "services/triggers/recording.py",
            "            if self.move is not None and locked.cursor_version == self.move.expected:",
            "            if False:",
        ),
    ),
    of(
        "knows-no-event-again",
        "An event that comes again is not recognised by its key.",
        (
            "services/triggers/recording.py",
            "        if locked.event_id is not None:\n            if self.move",
            "        if False:\n            if self.move",
        ),
    ),
    of(
        "tells-unconfirmed-events",
        "A trigger of a chain does not wait for the confirmations that it was told.",
        (
            "trigger_host/chain/watcher.py",
            "one.at, target_of(one.watch, newest.number, self._finalized), self._most",
            "one.at, newest.number, self._most",
        ),
        (
            "trigger_host/chain/watcher.py",
            "return -1 if newest is None else target_of(one.watch, newest.number, self._finalized)",
            "return -1 if newest is None or one is None else newest.number",
        ),
    ),
    of(
        "retracts-nothing",
        "What a reorg has removed is marked, and nobody is told.",
        (
            "services/triggers/chain_intake.py",
            'if watch.on_reorg != "retract" or known.told is None or known.is_told_gone:',
            "if True:",
        ),
    ),
    of(
        "restores-nothing",
        "A transaction that comes back after a reorg is taken for one that is known.",
        (
            "services/triggers/chain_intake.py",
            "            if known.is_told_gone:\n                key, number =",
            "            if False:\n                key, number =",
        ),
    ),
    of(
        "knows-events-by-their-place",
        "An event of a chain is known by its block's height and its place, not by its transaction.",
        (
            "core/triggers/chain/watch.py",
            'ChainEvent(f"{watch.chain_id}:{one.hash}:transaction", one.index',
            'ChainEvent(f"{watch.chain_id}:{block.number}:{one.index}", one.index',
        ),
    ),
    of(
        "retries-uncertain-writes",
        "A write of which nobody knows whether it happened is retried as one that failed.",
        ("engine/run/results.py", "if self._is_idempotent(execution) and (at :=", "if (at :="),
    ),
    of(
        "goes-on-with-a-newer-version",
        "A run that is taken up after a restart goes on with the version that was published after its own.",
        (
            "engine/run/recovery.py",
            "    compiled = await programs.find(row.workflow_id, row.version)\n",
            "    newer = await programs.find(row.workflow_id, row.version + 1)\n"
            "    compiled = newer or await programs.find(row.workflow_id, row.version)\n",
        ),
    ),
    of(
        "calls-a-workflow-again",
        "A node that called a workflow calls it again after a restart, as if it had not.",
        (
            "services/runs/subworkflow.py",
            '"wait", parent.id, call.path, str(call.attempt))',
            '"wait", parent.id, call.path, str(call.attempt), str(parent.fence))',
        ),
    ),
    of(
        "asks-only-for-the-newest-attempt",
        "Of a transaction that was replaced, only the newest attempt's receipt is asked for.",
        (
            "services/outbox/tracking/tracker.py",
            "one.row.id for one in asked for attempt in one.attempts}",
            "one.row.id for one in asked for attempt in one.attempts[-1:]}",
        ),
    ),
    of(
        "gives-up-on-a-lagging-node",
        "A used nonce without a receipt is taken for somebody else's at the first look at the newest block.",
        (
            "services/outbox/tracking/tracker.py",
            "            deep = max(0, head.number - one.row.confirmations + 1)\n",
            "            deep = head.number\n",
        ),
        (
            "services/outbox/tracking/tracker.py",
            "if len(suspicion.heads) > 1 and lasts_s >= max(_SUSPECTED_S, 2 * self._block_ms / 1000):",
            "if suspicion.heads:",
        ),
    ),
    of(
        "sends-only-once",
        "A transaction that was sent is never sent again, whatever became of it.",
        ("services/outbox/tracking/broadcast.py", "_AGAIN_AFTER_BLOCKS = 3", "_AGAIN_AFTER_BLOCKS = 3_000_000"),
        ("services/outbox/tracking/broadcast.py", '_UNHEARD = ("not-sent", "unknown")', "_UNHEARD = ()"),
    ),
    of(
        "books-no-fees",
        "The ledger has what was paid, without the fees.",
        ("core/money/accounting.py", "    if one.fee_units:\n", "    if not one.fee_units:\n"),
    ),
    of(
        "forgets-when-to-wake",
        "A node that waits is not woken after a restart.",
        (
            "core/run/plan.py",
            "execution.attempt, wake=True), execution.wake_at, holds)",
            "execution.attempt, wake=True), None, holds)",
        ),
    ),
    of(
        "wakes-at-once-after-a-restart",
        "A node that waits goes on at once after a restart.",
        (
            "core/run/plan.py",
            "execution.attempt, wake=True), execution.wake_at, holds)",
            "execution.attempt, wake=True), 0, holds)",
        ),
    ),
    of(
        "skips-the-sync",
        "SQLite is not asked to sync each commit, so that a failure of the power takes the last ones.",
        ("storage/db/database.py", 'f"PRAGMA synchronous={synchronous}"', '"PRAGMA synchronous=NORMAL"'),
    ),
    of(
        "releases-what-was-paid",
        "What a final transaction has spent is released, as if it had come to nothing.",
        (
            "services/outbox/tracking/accounting.py",
            "        self._endings.settle(row.id, fee_units",
            "        self._endings.release(row.id, fee_units",
        ),
    ),
    of(
        "pays-once-an-attempt",
        "A node that begins to spend again, after a restart or a failure, plans its payment anew.",
        (
            "services/outbox/intents.py",
            "        if stored is not None and not stored.came_to_nothing:",
            "        if stored is not None and stored.came_to_nothing is None:",
        ),
    ),
    of(
        "begins-items-again",
        "After a restart the items of a loop begin again, those that have ended too.",
        (
            "core/run/plan.py",
            "            execution = recorded.get(start.path)\n",
            '            execution = None if "[" in start.path else recorded.get(start.path)\n',
        ),
    ),
    of(
        "begins-at-the-head",
        "After a restart a trigger of a chain begins at the newest block, wherever it was.",
        (
            "trigger_host/chain/watched.py",
            "sub.row.cursor_version, cursor, cursor,",
            "sub.row.cursor_version, cursor, None,",
        ),
        (
            "trigger_host/chain/watcher.py",
            "if self._parts.reader.chain.network.is_local or head.time < armed_s:",
            "if True:",
        ),
    ),
    of(
        "takes-any-decision-for-a-yes",
        "A payment about which people were asked is signed once they have decided, whatever they decided.",
        (
            "services/outbox/policy_check.py",
            "    if asked is None or asked.status == APPROVED:\n",
            "    if asked is None or asked.status != PENDING:\n",
        ),
        (
            "services/outbox/policy_check.py",
            "if asked is None or asked.status != APPROVED or asked.binding is None:",
            "if asked is None or asked.status == PENDING or asked.binding is None:",
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
        command = [sys.executable, "-m", "testkit.simulation.runner", "--until-broken", "--as-it-is", *arguments]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    found = _SEED.search(done.stdout)
    if found is None and done.returncode:
        raise RuntimeError(f"{mutant.name}: {done.stdout[-1000:]}{done.stderr[-2000:]}")
    return None if found is None else (int(found.group(1)), found.group(2))


def hunt_all(mutants: Sequence[Mutant], names: Sequence[str], arguments: Sequence[str]) -> int:
    """Hunts the named mutants, or all; prints a line for each, and returns how many were not found."""
    missed = []
    for mutant in mutants:
        if not names or mutant.name in names:
            begun = time.monotonic()
            found = hunt(mutant, [*arguments, *(["--world", mutant.world] if mutant.world else [])])
            took = f"{time.monotonic() - begun:.0f} s"
            told = "NOT FOUND" if found is None else f"found by seed {found[0]}: {found[1]}"
            print(f"{mutant.name}: {told} ({took})", flush=True)
            missed += [] if found else [mutant.name]
    return len(missed)
