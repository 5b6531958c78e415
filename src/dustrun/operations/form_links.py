"""`/v1/workflows/{id}/forms`: links to public forms of a workflow."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from dustrun.errors import Code
from dustrun.operations.declaration.encoding import data_of
from dustrun.operations.declaration.operation import Named, Noun
from dustrun.operations.declaration.parts import Call
from dustrun.operations.runs import WorkflowId
from dustrun.operations.shapes.forms import CreateForm, FormAnswer, NewFormAnswer
from dustrun.services.triggers.forms.links import NewForm
from dustrun.services.triggers.forms.state import Form

noun = Noun("Forms")

FormId = Annotated[str, Named("formId"), Field(description="Id of the link, frm_….", max_length=100)]


def _forms(forms: list[Form]) -> list[dict[str, Any]]:
    return [data_of(FormAnswer, form) for form in forms]


@noun.get(
    "/v1/workflows/{id}/forms",
    permission="workflow:read",
    answers=list[FormAnswer],
    shape=_forms,
    refusals=[Code.WORKFLOW_UNKNOWN],
)
async def list_forms(call: Call, workflow_id: WorkflowId) -> list[Form]:
    """List a workflow's links to public forms, newest first, without their addresses.

    Links that ended more than 30 days ago may be gone.
    """
    return await call.parts.triggers.form_links.list_of(call.principal, workflow_id)


@noun.post(
    "/v1/workflows/{id}/forms",
    permission="workflow:publish",
    reads="workflow:read",
    needed=["url", "state", "mode", "maxRuns", "expiresAt"],
    answers=NewFormAnswer,
    refusals=[Code.WORKFLOW_UNKNOWN, Code.LIVE_UNKNOWN, Code.DEFINITION_INVALID, Code.FORM_LIMIT],
    secret=True,
    example={"mode": "simulate", "maxRuns": 20, "title": "Order a refund"},
)
async def create_form(call: Call, workflow_id: WorkflowId, body: CreateForm | None = None) -> NewForm:
    """Make a link to a form that starts runs without a key.

    The form asks for what the input schema of the live version's manual trigger lists. Its runs are of the version that
    is live then, in the name of this key: also needs `workflow:execute` (`workflow:simulate` for a form that only
    simulates), and `wallet:spend` if they can spend. The address is shown only in this answer.
    """
    return await call.parts.triggers.form_links.create(call.principal, workflow_id, (body or CreateForm()).options())


@noun.delete(
    "/v1/workflows/{id}/forms/{formId}",
    permission="workflow:publish",
    reads="workflow:read",
    needed=["state"],
    answers=FormAnswer,
    refusals=[Code.WORKFLOW_UNKNOWN, Code.FORM_UNKNOWN],
)
async def revoke_form(call: Call, workflow_id: WorkflowId, form_id: FormId) -> Form:
    """Revoke a link: nothing answers there any more, also not to those who wait for a result. Its runs go on."""
    return await call.parts.triggers.form_links.revoke(call.principal, workflow_id, form_id)
