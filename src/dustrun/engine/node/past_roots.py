"""What an expression sees of a run that has happened: for readers of runs, who may not use what a run may."""

from __future__ import annotations

import secrets
from typing import Any

from dustrun.core.expression.runtime.values import Roots
from dustrun.core.run.journal import Journal
from dustrun.core.values.exact_json import dumps_text, loads_own
from dustrun.core.workflow.program import Program
from dustrun.engine.node.roots import NodeRoots, ServerRoots
from dustrun.log import mask_links
from dustrun.services.runs.engine_port import RunFacts
from dustrun.services.runs.resume_links import ResumeLinks


class PastRoots:
    """Roots without `$env` and `$vars`, which a reader of runs may not see. Links are signed with a secret that no
    server knows: an expression could take one apart so that no mask would find it."""

    def __init__(self) -> None:
        self._server = ServerRoots({}, ResumeLinks(secrets.token_bytes(32), "https://example.com"))

    def roots(self, facts: RunFacts, program: Program, journal: Journal, frame: str) -> Roots:
        """The roots of a node in that frame of loop items, at the start of its run."""
        return NodeRoots(facts, program, journal, frame, facts.started_at, {}, self._server)

    def masked(self, value: Any) -> Any:
        """A value with the links in it masked."""
        return loads_own(mask_links(dumps_text(value)))
