"""`/v1/workflows/{id}/webhooks`: the addresses of a workflow's webhooks."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from dustrun.errors import Code
from dustrun.operations.declaration.encoding import as_it_is
from dustrun.operations.declaration.operation import Named, Noun
from dustrun.operations.declaration.parts import Call
from dustrun.operations.runs import WorkflowId
from dustrun.operations.shapes.webhooks import (
    NewAddressAnswer,
    RevokedAnswer,
    RotateBody,
    WebhookNodeAnswer,
    webhook_node_shape,
)
from dustrun.services.triggers.inbound.webhook_secrets import NewAddress, WebhookNode

noun = Noun("Webhooks")

NodeId = Annotated[str, Named("nodeId"), Field(description="Id of the webhook node.", max_length=128)]
_UNKNOWN = [Code.WORKFLOW_UNKNOWN, Code.WEBHOOK_UNKNOWN]


def _nodes(nodes: list[WebhookNode]) -> list[dict[str, Any]]:
    return [webhook_node_shape(node) for node in nodes]


@noun.get(
    "/v1/workflows/{id}/webhooks",
    permission="workflow:read",
    answers=list[WebhookNodeAnswer],
    shape=_nodes,
    refusals=[Code.WORKFLOW_UNKNOWN],
)
async def list_webhooks(call: Call, workflow_id: WorkflowId) -> list[WebhookNode]:
    """List the webhook nodes of a workflow's draft and live version, with their addresses but not their secrets."""
    return await call.parts.triggers.webhook_secrets.list_nodes(call.principal, workflow_id)


@noun.post(
    "/v1/workflows/{id}/webhooks/{nodeId}/rotate",
    permission="workflow:publish",
    answers=NewAddressAnswer,
    refusals=_UNKNOWN,
    secret=True,
    secret_body=True,
    example={"overlapMs": 86400000},
)
async def rotate_webhook(
    call: Call, workflow_id: WorkflowId, node_id: NodeId, body: RotateBody | None = None
) -> NewAddress:
    """Make a new address of a webhook, the first one or a replacement.

    The address and its signing secret are shown only in this answer. Old addresses stay good for `overlapMs`."""
    wanted = body or RotateBody()
    secrets = call.parts.triggers.webhook_secrets
    return await secrets.rotate(call.principal, workflow_id, node_id, wanted.signing_secret, wanted.overlap_ms)


@noun.delete(
    "/v1/workflows/{id}/webhooks/{nodeId}",
    permission="workflow:publish",
    answers=RevokedAnswer,
    refusals=_UNKNOWN,
    shape=as_it_is,
)
async def revoke_webhook(call: Call, workflow_id: WorkflowId, node_id: NodeId) -> dict[str, Any]:
    """Revoke every address of a webhook at once: nothing answers there any more."""
    await call.parts.triggers.webhook_secrets.revoke(call.principal, workflow_id, node_id)
    return {"nodeId": node_id, "revoked": True}
