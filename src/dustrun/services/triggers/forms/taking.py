"""Takes one run of a link to a form, in the transaction that creates it: so its limit is exact."""

from __future__ import annotations

from dataclasses import field

from dustrun import clock
from dustrun.core.run.state import Mode
from dustrun.core.triggers.limits import EXHAUSTED, Admit, decide
from dustrun.errors import Code, Conflict
from dustrun.records import dataclass
from dustrun.services.access.api_keys import principal_of
from dustrun.services.runs.engine_port import Created
from dustrun.services.triggers import pausing
from dustrun.services.triggers.forms.state import CLOSED, Form, form_of, limits_of, need_open
from dustrun.storage.db.statement import Tx
from dustrun.storage.runs import runs as run_rows
from dustrun.storage.triggers import form_links as rows
from dustrun.storage.workflows import workflows


class FormMoved(Exception):
    """Another version was published since the form was read."""


@dataclass(slots=True)
class Taking:
    """Takes one run of a link, in the transaction that creates it."""

    form: Form
    run_id: str
    version: int
    created: Created | None = None
    _now: int = 0
    _admit: Admit = field(default_factory=Admit)
    _locked: Form | None = None

    def before(self, tx: Tx) -> Taking | None:
        """Locks workflow and link, in that order, and decides; itself without a run, if the run exists already."""
        link = self.form.link
        self._now = clock.now_ms()
        workflow = workflows.find_to_change(tx, link.org_id, link.workflow_id)
        row = rows.find_to_change(tx, link.id)
        if run_rows.find(tx, link.org_id, self.run_id) is not None:
            return self
        if workflow is None or row is None:
            raise Conflict(CLOSED, code=Code.FORM_CLOSED)
        self._locked = form_of(tx, row, workflow)
        need_open(self._locked, self._now)
        if workflow.live_version != self.version:
            raise FormMoved
        verdict = decide(limits_of(row, workflow), self._now)
        assert isinstance(verdict, Admit), "an open form has room"
        self._admit = verdict
        return None

    def after(self, tx: Tx, created: Created) -> Taking:
        """Counts the run, at the link and, if it is live, at the workflow."""
        assert self._locked is not None
        link, workflow = self._locked.link, self._locked.workflow
        rows.count_run(tx, link, self._now)
        if link.mode == Mode.LIVE:
            workflows.update(tx, workflow.id, remain_runs=self._admit.remain_runs, last_triggered_at=self._now)
            if self._admit.takes_last:
                pausing.pause(tx, workflow.id, EXHAUSTED, principal_of(self._locked.key))
        self.created = created
        return self

    @property
    def pauses(self) -> bool:
        """Whether the workflow has no runs left after this one."""
        return self.created is not None and self._admit.takes_last
