"""Response models of what shaped a spend, which `core/sources/report.py` builds."""

from __future__ import annotations

from pydantic import Field

from dustrun.api.shapes.wire import Answer, PageAnswer


class SourceAnswer(Answer):
    """One thing outside of a run that can change what it does."""

    source: str = Field(
        description="`*` stands for any of its kind, also for those of workflows that the key may not see.",
        examples=["http:api.example.com", "trigger:webhook.usd", "definition:wf_01k9@3#pay.recipient"],
    )
    kind: str = Field(examples=["http"])
    says: str = Field(description="The same in words.", examples=["the answer of api.example.com"])


class SourceList(Answer):
    """What answers one question about a spend; at most 100 of `total` sources."""

    question: str = Field(examples=["who is paid"])
    sources: list[SourceAnswer]
    total: int


class FieldSources(SourceList):
    """What can change one money field."""

    field: str = Field(
        description="`recipient`, `amount`, `asset`, `chain`, `calldata`, `limits` or `wallet`.", examples=["recipient"]
    )


class ApprovalSources(Answer):
    """An `approve` node that must be approved before the spend, and the money fields that its message shows."""

    node_id: str
    shows: list[str]


class SpendSourcesAnswer(Answer):
    """What shaped one spend. `fields`: what can change it. `decides`: what chooses whether it happens, or how often.
    `stops`: what can only prevent it; absent for a run, where nothing did."""

    workflow_id: str
    version: int
    node_id: str
    type: str
    fields: list[FieldSources]
    decides: SourceList
    stops: SourceList | None = None
    approvals: list[ApprovalSources]
    paths: list[str] | None = Field(
        None, description="Of a run: where it happened, as the report of effects names the places; at most 100."
    )
    count: int | None = Field(None, description="Of a run: how many times it came to the spend.")


class SpendSourcesPage(PageAnswer[SpendSourcesAnswer]):
    """What shapes the spends of a version and of what it calls. `digest` stands for these definitions; `callsAny`: a
    call computes which workflow it runs, so that others may spend, too. `hidden`: spends of workflows that the key may
    not see."""

    workflow_id: str
    version: int
    digest: str
    calls_any: bool
    hidden: int
