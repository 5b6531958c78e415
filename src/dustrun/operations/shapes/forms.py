"""Request and response models of public forms."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from dustrun import clock
from dustrun.core.run.state import Mode
from dustrun.core.values.fields import Fields
from dustrun.errors import Invalid, Problem
from dustrun.operations.declaration.answers import MADE, Answer, From, Time
from dustrun.operations.declaration.fields import Description, Instant, Name, moment_ms
from dustrun.operations.shapes.runs import Json
from dustrun.services.triggers.forms.links import FormOptions
from dustrun.services.triggers.forms.state import Form

_DAY_MS = 86_400_000
_DAYS, _MOST_DAYS = 30, 366
SubmissionId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{16,100}$")]


class CreateForm(Fields):
    """A new link to a form."""

    mode: Mode = Field(
        Mode.SIMULATE, description="What its runs are. `live` and `dust` need what starting such a run needs."
    )
    max_runs: int = Field(100, ge=1, le=100_000, strict=True, description="How many runs it may start.")
    expires_at: Instant | None = Field(
        None, description=f"When it ends, at most {_MOST_DAYS} days from now. Default: in {_DAYS} days."
    )
    title: Name | None = Field(
        None, description="Shown above the form. Default: the workflow's name.", examples=["Order a refund"]
    )
    description: Description | None = Field(None, description="Shown below the title.")

    def options(self) -> FormOptions:
        """The options as the service takes them; raises `Invalid` for a time too far away."""
        now = clock.now_ms()
        ends = now + _DAYS * _DAY_MS if self.expires_at is None else moment_ms(self.expires_at)
        if ends > now + _MOST_DAYS * _DAY_MS:
            problem = Problem("expiresAt", f"must be at most {_MOST_DAYS} days from now")
            raise Invalid("The form would stay open too long.", details=[problem])
        return FormOptions(self.mode, self.max_runs, ends, self.title, self.description)


class SubmitForm(Fields):
    """An answer to a form."""

    values: dict[str, Any] = Field(
        default_factory=dict, description="The payload, as the form's `inputSchema` says.", examples=[{"order": "17"}]
    )
    submission_id: SubmissionId | None = Field(
        None,
        description="Random, chosen by the sender: sending it again starts nothing more, and whoever knows it and the "
        "link reads the result. Default: the server chooses.",
        examples=["3f0c2e9a4b7d41c8"],
    )


class FormAnswer(Answer):
    """A link to a form, without its address."""

    id: Annotated[str, From("link.id")] = Field(examples=["frm_01k9w3x7q2c4v6b8n0m1a2s3d4"])
    workflow_id: Annotated[str, From("link.workflow_id")]
    title: Annotated[str, From("link.title")]
    description: Annotated[str | None, From("link.description")]
    mode: Annotated[Mode, From("link.mode")]
    state: Annotated[
        Literal["open", "revoked", "expired", "usedUp", "keyEnded", "unpublished", "paused", "cooldown"], From(_state)
    ] = Field(
        description="Whether it takes answers, and why not. `keyEnded`: the key that made it was revoked or expired."
    )
    runs: Annotated[int, From("link.runs")] = Field(description="Runs that it has started.")
    max_runs: Annotated[int, From("link.max_runs")]
    created_by: Annotated[str, From("link.key_id")] = Field(description="Id of the key in whose name its runs are.")
    created_at: Annotated[Time, From("link.created_at")]
    expires_at: Annotated[Time, From("link.expires_at")]
    revoked_at: Annotated[Time | None, From("link.revoked_at")]
    last_run_at: Annotated[Time | None, From("link.last_run_at")]


class NewFormAnswer(FormAnswer, of="form"):
    """A new link. Its address is shown only now."""

    url: str = Field(description="Where people answer the form. Whoever has it may.")
    warnings: list[str] = Field(description="Spends of the live version that pay whom the answers name.")


class PublicFormAnswer(Answer):
    """A form as everybody who has its link sees it."""

    title: str
    description: str | None
    mode: Mode
    is_open: Annotated[bool, From(lambda one: one.schema is not None)] = Field(description="Whether it takes answers.")
    message: str | None = Field(description="Why it takes none.")
    input_schema: Annotated[Json | None, From("schema")] = Field(
        description="JSON Schema of the values; null if it takes none."
    )


class SaidAnswer(Answer):
    """The answer of the workflow's `respond` node."""

    status: int
    body: Any = None


class SubmissionAnswer(Answer):
    """How far a submission has come."""

    submission_id: str
    status: Literal["running", "done", "failed"]
    answer: Annotated[SaidAnswer | None, MADE] = Field(
        description="What the workflow's `respond` node says; nothing else is shown."
    )


def _state(form: Form) -> str:
    return form.state_at(clock.now_ms()).value
