"""Mistakes that only several servers on one store can suffer from; hunted in worlds with `servers`."""

from __future__ import annotations

from typing import Final

from testkit.simulation.mutants import Mutant, of

WORLD: Final = "chain,people,faults,kills,servers"

SHARED: Final[tuple[Mutant, ...]] = (
    of(
        "forgets-the-fence-of-a-run",
        "A server that stood still writes on in a run that another one has taken over.",
        (
            "storage/runs/journal.py",
            '        runs.c.fence == b("the_fence"),\n        run_is_open,\n',
            '        runs.c.fence >= b("the_fence"),\n        run_is_open,\n',
        ),
        world=WORLD,
    ),
    of(
        "forgets-the-fence-of-a-sender",
        "A server that stood still commits what it has signed, although another one signs for the wallet by now.",
        (
            "services/outbox/sender_queue.py",
            "        if self.holder is not None:\n            lease_rows.check",
            "        if self.holder is None:\n            lease_rows.check",
        ),
        world=WORLD,
    ),
    of(
        "takes-what-the-living-hold",
        "A lease is taken from a server that lives.",
        (
            "storage/sharing/leases.py",
            "f\" WHERE leases.holder = excluded.holder OR {IS_DEAD.format(holder='leases.holder')}\"\n",
            '" WHERE true"\n',
        ),
        world=WORLD,
    ),
    of(
        "leaves-the-runs-of-the-dead",
        "Nobody takes over the runs of a server that is no more.",
        ("engine/hosts/claims.py", "            for holder in dead:\n", "            for holder in dead[:0]:\n"),
        world=WORLD,
    ),
    of(
        "never-looks-for-what-it-missed",
        "A notification that was lost is made up for by nothing: neither after a broken connection nor in quiet times.",
        (
            "services/sharing/bus.py",
            "        for look in self.on_gap:\n            look()\n",
            "        for _look in self.on_gap:\n            pass\n",
        ),
        world=WORLD,
    ),
    of(
        "leaves-what-others-owe-the-ledger",
        "What a server has not yet written to the ledger when it dies is written by no other.",
        (
            "services/outbox/tracking/accounting.py",
            "        return None if self._deps.leases is None else _SHARED_S\n",
            "        return None\n",
        ),
        world=WORLD,
    ),
)
