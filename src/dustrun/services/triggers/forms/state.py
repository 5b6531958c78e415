"""Whether a link to a form takes answers, and why not: for its maker in full, for the public in one sentence."""

from __future__ import annotations

from enum import StrEnum

from dustrun.core.run.state import Mode
from dustrun.core.triggers.limits import Skip, StartLimits, decide
from dustrun.errors import Code, Conflict
from dustrun.records import dataclass
from dustrun.services.access.api_keys import is_good
from dustrun.storage.access import keys as key_rows
from dustrun.storage.access.keys import KeyRow
from dustrun.storage.db.statement import Tx
from dustrun.storage.triggers.form_links import FormLinkRow
from dustrun.storage.workflows.workflows import WorkflowRow


class FormState(StrEnum):
    """Whether a link takes answers."""

    OPEN = "open"
    REVOKED = "revoked"
    EXPIRED = "expired"
    USED_UP = "usedUp"
    KEY_ENDED = "keyEnded"
    UNPUBLISHED = "unpublished"
    PAUSED = "paused"
    COOLDOWN = "cooldown"


PUBLIC_WORDS = {
    FormState.EXPIRED: "This form has expired.",
    FormState.USED_UP: "This form has been answered as often as it may be.",
    FormState.COOLDOWN: "This form was answered a moment ago; try again later.",
}
"""The states that everybody may know; all other states are one."""
CLOSED = "This form cannot be answered now. Tell whoever gave you the link."


@dataclass(frozen=True, slots=True)
class Form:
    """A link with its workflow and the key in whose name it runs, as one transaction sees them."""

    link: FormLinkRow
    workflow: WorkflowRow
    key: KeyRow

    def state_at(self, now: int) -> FormState:
        """Whether it takes answers."""
        link, workflow = self.link, self.workflow
        if link.revoked_at is not None:
            return FormState.REVOKED
        if link.expires_at <= now:
            return FormState.EXPIRED
        if link.runs >= link.max_runs:
            return FormState.USED_UP
        if not is_good(self.key):
            return FormState.KEY_ENDED
        if workflow.live_version is None:
            return FormState.UNPUBLISHED
        verdict = decide(limits_of(link, workflow), now)
        if isinstance(verdict, Skip):
            return FormState.COOLDOWN if verdict.reason == "cooldown" else FormState.PAUSED
        return FormState.OPEN


def limits_of(link: FormLinkRow, workflow: WorkflowRow) -> StartLimits:
    """The workflow's limits of what starts by itself; only live runs count, as for triggers."""
    if link.mode != Mode.LIVE:
        return StartLimits(workflow.status, None, workflow.cooldown_ms, link.last_run_at)
    return StartLimits(workflow.status, workflow.remain_runs, workflow.cooldown_ms, workflow.last_triggered_at)


def form_of(tx: Tx, link: FormLinkRow, workflow: WorkflowRow) -> Form:
    """The form of a link and its workflow."""
    key = key_rows.find(tx, link.org_id, link.key_id)
    assert key is not None, "keys are never deleted"
    return Form(link, workflow, key)


def need_open(form: Form, now: int) -> None:
    """Raises `Conflict` unless the form takes answers."""
    state = form.state_at(now)
    if state is not FormState.OPEN:
        raise Conflict(PUBLIC_WORDS.get(state, CLOSED), code=Code.FORM_CLOSED)
