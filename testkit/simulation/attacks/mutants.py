"""The faults that outsiders found, planted again as they were: each was mended before the server was simulated.

Each is looked for in worlds with `attacks` (`testkit/simulation/attacks/roads.py`).
"""

from __future__ import annotations

from typing import Final

from testkit.simulation.mutants import Mutant, of

WORLD: Final = "chain,people,faults,kills,attacks"

ATTACKS: Final[tuple[Mutant, ...]] = (
    of(
        "asks-only-who-wrote-the-root",
        "A spend is judged by who wrote the version that runs, not by who wrote what it calls and reads.",
        (
            "services/workflows/sources.py",
            "            for hand in hands[thing]:\n",
            "            for hand in hands[thing] if thing == own else ():\n",
        ),
        world=WORLD,
    ),
    of(
        "forgets-who-moved-a-connector",
        "A connector is whose it was at first, whoever changes its destination.",
        (
            "services/connectors/connectors.py",
            '            rows.update(tx, row)\n            hands.note(tx, principal, "connector", connector_id)\n',
            "            rows.update(tx, row)\n",
        ),
        world=WORLD,
    ),
    of(
        "forgets-who-wrote-a-row",
        "Rows of a table are whose the table is, whoever writes them.",
        (
            "services/data/managed_tables.py",
            "            written, is_watched = done.result, done.is_watched\n"
            '            hands.note(tx, principal, "table", table.row.id)\n',
            "            written, is_watched = done.result, done.is_watched\n",
        ),
        world=WORLD,
    ),
    of(
        "takes-variables-for-nobodys",
        "A variable is nobody's, whoever sets it.",
        (
            "services/workflows/sources.py",
            'if kind in ("resume", "approval", "comment"):',
            'if kind in ("resume", "approval", "comment", "variable"):',
        ),
        world=WORLD,
    ),
    of(
        "takes-publishing-for-nobodys",
        "Which version a call runs is nobody's choice.",
        (
            "services/workflows/sources.py",
            '        if kind == "finished":\n            return [UNKNOWN]\n        if kind == "version" and name',
            '        if kind == "finished":\n            return [UNKNOWN]\n        if kind == "version":\n'
            '            return []\n        if kind == "version" and name',
        ),
        world=WORLD,
    ),
    of(
        "lets-anybody-go-on",
        "Whoever may publish resumes a paused workflow that spends.",
        ("services/triggers/arming.py", 'goes_on = before.status == "paused" or', "goes_on ="),
        world=WORLD,
    ),
    of(
        "lets-anybody-answer-a-wait",
        "Whoever may execute a workflow says what a `wait` of it goes on with, and so what it pays.",
        (
            "services/runs/resume.py",
            "        if run.row.mode != Mode.SIMULATE.value:\n            await self._check_hand",
            "        if run.row.mode is None:\n            await self._check_hand",
        ),
        world=WORLD,
    ),
    of(
        "takes-each-key-for-a-hand",
        "Keys that one key has made are as many hands.",
        (
            "services/access/hands.py",
            "        if row.created_by is None:\n            break\n        maker",
            "        if row.created_by is not None:\n            break\n        maker",
        ),
        world=WORLD,
    ),
)
