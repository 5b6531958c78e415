"""`/v1/forms/{secret}`: what the public does with a form, which needs no key but its link."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from starlette.requests import Request

from dustrun.errors import Code, NotFound
from dustrun.operations.declaration.operation import PUBLIC, Named, Noun
from dustrun.operations.declaration.parts import Call
from dustrun.operations.shapes.forms import (
    PublicFormAnswer,
    SubmissionAnswer,
    SubmissionId,
    SubmitForm,
)
from dustrun.services.access.rate_limits import Excess, network_of
from dustrun.services.triggers.forms.answers import FormView, SubmissionOutcome
from dustrun.services.triggers.forms.state import Form

noun = Noun("Forms")

Secret = Annotated[str, Field(description="The secret part of the link, dfm_….", max_length=200)]
Submission = Annotated[SubmissionId, Named("submissionId"), Field(description="Id of the submission.")]


async def _form(call: Call, request: Request, secret: str) -> Form:
    """The form of a link; whoever guesses is slowed down, as with wrong keys."""
    access = call.parts.access
    form = await call.parts.triggers.form_answers.find(secret)
    if form is None:
        access.form_guesses.take(_caller(request), Excess.FORM_GUESSES)
        raise NotFound("There is no such form, or its link was revoked.", code=Code.FORM_UNKNOWN)
    access.form_requests.take(form.link.id, Excess.FORM_REQUESTS)
    return form


def _caller(request: Request) -> str:
    return network_of(request.client.host if request.client else "")


@noun.get(
    "/v1/forms/{secret}",
    permission=PUBLIC,
    answers=PublicFormAnswer,
    refusals=[Code.FORM_UNKNOWN, Code.RATE_LIMITED],
)
async def show_form(call: Call, request: Request, secret: Secret) -> FormView:
    """Get a form as everybody who has its link sees it: its title and what it asks for."""
    return await call.parts.triggers.form_answers.view(await _form(call, request, secret))


@noun.post(
    "/v1/forms/{secret}",
    permission=PUBLIC,
    answers=SubmissionAnswer,
    refusals=[Code.FORM_UNKNOWN, Code.FORM_CLOSED, Code.PAYLOAD_INVALID, Code.RATE_LIMITED],
    example={"values": {"order": "17"}, "submissionId": "3f0c2e9a4b7d41c8"},
)
async def submit_form(call: Call, request: Request, secret: Secret, body: SubmitForm) -> SubmissionOutcome:
    """Answer a form: starts a run of its workflow, once for each `submissionId`.

    The link starts as many runs as it may and not one more, however many ask at once. The answer tells nothing of the
    run but what its `respond` node says; ask for the result until its `status` is no longer `running`.
    """
    form = await _form(call, request, secret)
    caller = f"{form.link.id} {_caller(request)}"
    call.parts.access.form_submissions.take(caller, Excess.FORM_SUBMISSIONS)
    return await call.parts.triggers.form_answers.submit(form, body.values, body.submission_id)


@noun.get(
    "/v1/forms/{secret}/submissions/{submissionId}",
    permission=PUBLIC,
    answers=SubmissionAnswer,
    refusals=[Code.FORM_UNKNOWN, Code.RATE_LIMITED],
)
async def get_submission(call: Call, request: Request, secret: Secret, submission_id: Submission) -> SubmissionOutcome:
    """Get how far a submission has come, and what the workflow's `respond` node says."""
    form = await _form(call, request, secret)
    return await call.parts.triggers.form_answers.read(form, submission_id)
