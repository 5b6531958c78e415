"""`/v1/runs/{id}/nodes/{nodeId}/resume`: resumes a waiting node, by a signed link or with a key."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field
from starlette.requests import Request

from dustrun.api.auth import bearer_of
from dustrun.core.values.fields import Fields
from dustrun.errors import Code
from dustrun.operations.declaration.answers import Answer
from dustrun.operations.declaration.operation import Named, Noun
from dustrun.operations.declaration.parts import Call, parts_of
from dustrun.operations.runs import RunId
from dustrun.operations.shapes.runs import ForEachContext
from dustrun.services.access.principal import Principal
from dustrun.services.access.rate_limits import Excess
from dustrun.services.runs.resume import ResumeResult

noun = Noun("Runs")

NodeId = Annotated[
    str, Named("nodeId"), Field(description="Id of the node, or its path like `each[3].ask`.", max_length=1000)
]


class ResumeBody(Fields):
    """Data for the waiting node."""

    data: dict[str, Any] = Field(
        default_factory=dict,
        description=(
            "The `triggerResult` of a `wait`; of an `approve`: `decision` (`approved` or `rejected`) and "
            "optionally `comment`."
        ),
        examples=[{"decision": "approved"}],
    )
    for_each_context: ForEachContext | None = Field(
        None, description="The loop iteration, if `nodeId` is the id of a node in a loop."
    )


class ResumeAnswer(Answer):
    """Result of the resume."""

    action: str = Field(description="`resumed` or `skipped`.", examples=["resumed"])
    reason: str | None = Field(description="Why it was skipped, or that it is stored until the node waits.")


def _by_link(request: Request) -> Principal | None:
    token = request.query_params.get("token")
    if token is None or bearer_of(request.scope) is not None:
        return None
    parts, where = parts_of(request.scope), request.path_params
    org_id = request.query_params.get("org", "")
    principal = parts.waits.resumes.principal_of(token, org_id, where["id"], where["nodeId"])
    parts.access.form_requests.take(token, Excess.LINK_REQUESTS)
    return principal


@noun.post(
    "/v1/runs/{id}/nodes/{nodeId}/resume",
    permission="workflow:execute",
    answers=ResumeAnswer,
    refusals=[
        Code.LINK_INVALID,
        Code.PASSKEY_NEEDED,
        Code.RUN_UNKNOWN,
        Code.NODE_UNKNOWN,
        Code.NODE_NOT_RESUMABLE,
        Code.PAYLOAD_INVALID,
        Code.DEFINITION_INVALID,
    ],
    by_link=_by_link,
    example={"data": {"amount": 20}},
)
async def resume_node(
    call: Call,
    run_id: RunId,
    node_id: NodeId,
    body: ResumeBody | None = None,
    token: Annotated[str | None, Field(description="Token of the signed link; replaces a key.", max_length=100)] = None,
    org: Annotated[str | None, Field(description="Organisation of the signed link.", max_length=100)] = None,
) -> ResumeResult:
    """Resume a `wait` node, or decide an `approve` node.

    Needs a key with `workflow:execute` (for an `approve` node also `approval:decide`), or the signed link of
    `{{$run.resumeUrl('<nodeId>')}}`. A node is resumed once. A resume that arrives before its node waits is stored, and
    applied when the wait begins."""
    found = body or ResumeBody()
    context = found.for_each_context
    stack = [(level.parent_node_id, level.index) for level in context.stack] if context is not None else None
    return await call.parts.waits.resumes.resume(call.principal, run_id, node_id, stack, found.data)
