"""Response models of what shaped a spend, which `core/sources/report.py` builds."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from dustrun.operations.declaration.answers import Answer, PageAnswer


class SourceAnswer(Answer):
    """One thing outside of a run that can change what it does."""

    source: str = Field(
        description="`*` stands for any of its kind, also for those of workflows that the key may not see.",
        examples=["http:api.example.com", "trigger:webhook.usd", "definition:wf_01k9@3#pay.recipient"],
    )
    kind: str = Field(examples=["http"])
    says: str = Field(description="The same in words.", examples=["the answer of api.example.com"])


class SourceList(Answer):
    """The sources that answer one question about a spend; at most 100 of `total` sources."""

    question: str = Field(examples=["who is paid"])
    sources: list[SourceAnswer]
    total: int


class FieldSources(SourceList):
    """The sources that can change one money field."""

    field: str = Field(
        description="`recipient`, `amount`, `asset`, `chain`, `calldata`, `limits` or `wallet`.", examples=["recipient"]
    )


class ApprovalSources(Answer):
    """An `approve` node that must be approved before the spend, and the money fields that its message shows."""

    node_id: str
    shows: list[str]


class ShapingNode(Answer):
    """A node that shapes a spend."""

    workflow_id: str
    version: int
    node_id: str
    level: Literal["data", "decides"] = Field(
        description="`data`: it can change a money field; `decides`: only whether it happens, or how often."
    )


class StoreWriter(Answer):
    """A node that writes to a table or a variable."""

    workflow_id: str
    version: int
    node_id: str


class StoreSources(Answer):
    """A table or a variable by which something is paid, and what shapes it: by the drafts and live versions that write
    to it (at most 20), and as it is kept of what they have written. A spend is judged by what shaped the rows that it
    has read, and the value."""

    source: str = Field(examples=["table:payees"])
    says: str
    writers: list[StoreWriter]
    keys: list[str] = Field(description="Ids of keys that wrote it, by hand or with what they started or made.")
    sources: list[SourceAnswer]
    total: int


class SpendSourcesAnswer(Answer):
    """The sources of one spend. `fields`: what can change it. `decides`: what chooses whether it happens, or how often.
    `stops`: what can only prevent it; absent for a run, where nothing did."""

    workflow_id: str
    version: int
    node_id: str
    type: str
    fields: list[FieldSources]
    decides: SourceList
    stops: SourceList | None = None
    nodes: list[ShapingNode] = Field(description="The nodes that shape it, to be shown on a canvas; at most 500.")
    approvals: list[ApprovalSources]
    stores: list[StoreSources] = Field(
        description="The tables and variables that can change a money field; at most 20 of an answer."
    )
    paths: list[str] | None = Field(
        None, description="Of a run: where it happened, as the report of effects names the places; at most 100."
    )
    count: int | None = Field(None, description="Of a run: how many times it came to the spend.")


class LoopAnswer(Answer):
    """How the spends of a loop, and of loops within it, are judged: all items before the first begins, or each in its
    turn."""

    node_id: str
    judged_before: list[str] = Field(description="Nodes whose spends of all items are judged before the first begins.")
    judged_in_turn: dict[str, str] = Field(description="The other nodes, and why they are not.")


class SpendSourcesPage(PageAnswer[SpendSourcesAnswer]):
    """The sources of the spends of a version and of what it calls. `digest` stands for these definitions; `callsAny`: a
    call computes which workflow it runs, so that others may spend, too. `hidden`: spends of workflows that the key may
    not see. `loops`: those of this version that spend."""

    workflow_id: str
    version: int
    digest: str
    calls_any: bool
    hidden: int
    loops: list[LoopAnswer]
