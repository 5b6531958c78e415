"""The workflow document as frozen models; the published JSON Schema is generated from these same models."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

from pydantic import Field, StringConstraints

from dustrun.core.values.fields import Fields, ignored
from dustrun.errors import Invalid, Problem

NODE_ID = re.compile(r"^[A-Za-z_][A-Za-z0-9_-]{0,63}$")

UNBOUND = "unbound:"
"""Prefix of a placeholder in an imported file that is not bound to a resource yet."""

WALLET: Final = "wallet"
ANY_WALLET: Final = "*"
"""Stands for every wallet of the organisation, when an expression names the wallet."""

NodeId = Annotated[str, StringConstraints(pattern=NODE_ID.pattern)]
Branch = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class ConnectorReference(Fields):
    """The stored credentials or wallet of a node."""

    type: str = Field(description="Connector type, e.g. `wallet`.", max_length=64)
    id: str = Field(
        description="Id of the connector or wallet; of a wallet also an expression, evaluated for each item.",
        max_length=2000,
    )
    one_of: tuple[Annotated[str, StringConstraints(min_length=1, max_length=128)], ...] | None = Field(
        None, min_length=1, max_length=100, description="The wallets that an expression in `id` may give; default: all."
    )

    @property
    def is_expression(self) -> bool:
        """Whether the id is only known when the node runs."""
        return "{{" in self.id

    @property
    def wallets(self) -> tuple[str, ...]:
        """The wallets that a reference of type `wallet` can mean; `ANY_WALLET` for all."""
        return (self.one_of or (ANY_WALLET,)) if self.is_expression else (self.id,)


class RetryPolicy(Fields):
    """How often and when a failed attempt is retried; only errors that certainly had no effect are retried."""

    max_attempts: int = Field(1, ge=1, le=100, description="Total attempts, including the first.")
    backoff_ms: int = Field(1000, ge=0, le=86_400_000, description="Wait before the second attempt; doubles each time.")
    max_backoff_ms: int = Field(60_000, ge=0, le=86_400_000, description="Longest wait between attempts.")
    jitter: bool = Field(True, description="Whether each wait is shortened by a random amount of up to half.")


class RateLimit(Fields):
    """How many attempts of a node may begin in a span of time, over all loop items of one run."""

    count: int = Field(ge=1, le=10_000, description="Most attempts that begin in `perMs`.")
    per_ms: int = Field(ge=1, le=86_400_000, description="The span in milliseconds, at most a day.")


class Node(Fields):
    """One node of the graph."""

    type: str = Field(description="Action, control or trigger type.", min_length=1, max_length=128)
    payload: dict[str, Any] = Field(default_factory=dict, description="Configuration; strings may hold `{{ }}`.")
    children: tuple[NodeId, ...] = Field((), description="Ids of the nodes that follow.")
    branch: Branch | None = Field(None, description="The branch of its parents on which this node runs.")
    loop_body: tuple[NodeId, ...] = Field((), description="Of a `for-each`: ids of the first nodes of its body.")
    connector: ConnectorReference | None = Field(None, description="Stored credentials or wallet.")
    title_override: str | None = Field(None, max_length=255, description="Short label.")
    description: str | None = Field(None, max_length=2000, description="Free text.")
    retry: RetryPolicy | None = Field(None, description="Retries of a failed attempt.")
    rate: RateLimit | None = Field(None, description="Rate limit over all items of its loops, in one run.")
    timeout_ms: int | None = Field(None, ge=1, le=604_800_000, description="Time limit of one attempt in milliseconds.")
    on_error: Literal["fail", "continue", "branch"] = Field(
        "fail",
        description="`fail` ends the run, `continue` goes on, `branch` runs children with `branch: error`.",
    )
    on_uncertain: Literal["ask", "fail", "retry"] = Field(
        "ask", description="What to do when it is unknown whether the effect happened."
    )
    join: Literal["all", "any"] = Field("all", description="Whether to wait for all parents or any one.")
    pinned: Any = Field(None, description="A fixed result, used in simulation.")
    dust: Literal["run", "skip", "refuse"] | None = Field(None, description="How a dust run treats this node.")
    dust_amount: str | None = Field(
        None,
        pattern=r"^[0-9]{1,78}$",
        description="Amount for a dust run in base units, instead of the computed one; 0 sends nothing: it is skipped.",
    )
    block_context: Any = ignored()

    @property
    def is_skipped_as_dust(self) -> bool:
        """Whether a dust test skips the node: it says so, or its amount for one is zero."""
        return self.dust == "skip" or (
            self.dust != "refuse" and self.dust_amount is not None and not int(self.dust_amount)
        )

    @property
    def is_pinned(self) -> bool:
        """Whether a pinned result is set; `null` counts."""
        return "pinned" in self.model_fields_set


class VariableDef(Fields):
    """A workflow variable with its default."""

    name: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="Name.")
    type: Literal["number", "text", "boolean", "list", "object", "any"] = Field("any", description="Type.")
    default: Any = Field(None, description="Value before the first write.")
    description: str | None = Field(None, max_length=2000, description="Free text.")
    lifetime: Literal["persist", "reset"] = Field("persist", description="Kept between runs, or reset by each.")


class WorkflowInput(Fields):
    """A declared input of the workflow, for forms."""

    key: str = Field(min_length=1, max_length=64, description="Name of the input.")
    type: str = Field("string", max_length=64, description="Type of the input.")
    required: bool = Field(False, description="Whether it is required.")
    description: str | None = Field(None, max_length=2000, description="Free text.")


class Definition(Fields):
    """A graph of nodes: one or more triggers, and what follows."""

    schema_version: Literal[1] = Field(1, description="Version of this document's schema.")
    nodes: dict[NodeId, Node] = Field(min_length=1, max_length=1000, description="Nodes by id.")
    trigger_node_ids: tuple[NodeId, ...] = Field(("root",), min_length=1, description="Ids of the trigger nodes.")
    variable_defs: tuple[VariableDef, ...] = Field((), description="Workflow variables.")
    input_schema: tuple[WorkflowInput, ...] = Field((), description="Declared inputs, for forms.")
    block_expansions: Any = ignored()
    sensitive_prop_keys: Any = ignored()


# Checks which wallet the expression of a node's connector gives.


_WALLET_ID: Final = re.compile(r"wal_[0-9A-Za-z]{1,64}")
_FIELD: Final = "connector.id"


def choose(reference: ConnectorReference, value: Any) -> ConnectorReference:
    """The reference with the id that its expression gave; raises `Invalid` if that is no wallet's id, or none that
    `oneOf` lists."""
    if not isinstance(value, str) or _WALLET_ID.fullmatch(value) is None:
        # not quoted: it may be any value of the run
        raise _invalid("The expression does not give the id of a wallet (wal_…); GET /v1/wallets lists the ids.")
    if reference.one_of is not None and value not in reference.one_of:
        raise _invalid(f'The expression gives the wallet "{value}", which connector.oneOf does not list.')
    return ConnectorReference(type=WALLET, id=value)


def _invalid(message: str) -> Invalid:
    return Invalid(f"{_FIELD}: {message}", details=[Problem(_FIELD, message)])
