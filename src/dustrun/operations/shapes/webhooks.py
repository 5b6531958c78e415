"""Request and response models of webhooks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field
from starlette.responses import Response

from dustrun.core.run.state import RunStatus
from dustrun.core.text.masking import hide_bytes
from dustrun.core.values.exact_json import dumps
from dustrun.core.values.fields import Fields
from dustrun.core.workflow.responding import encoded_body
from dustrun.operations.declaration.answers import Answer, From, Time, time
from dustrun.operations.shapes.runs import Json
from dustrun.services.triggers.inbound.webhook_secrets import WebhookNode
from dustrun.services.triggers.inbound.webhooks import WebhookResult
from dustrun.storage.triggers.webhook_secrets import SecretRow

_SAFE = {
    # The answer comes from a workflow: a browser shows it as the page of nobody, and guesses no type.
    "Content-Security-Policy": "sandbox; default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class WebhookAnswer(Answer):
    """The result of a webhook request."""

    action: Literal["triggered", "skipped"]
    event_id: str = Field(examples=["evt_01k9w3x7q2c4v6b8n0m1a2s3d4"])
    run_ids: list[str]
    reason: str | None = Field(description="Why it started no run; `duplicate`: it had come before.")
    message: str | None = Field(None, description="The reason as a sentence.")
    status: RunStatus | None = Field(None, description="Of a webhook that waits for its run: how far it came.")
    result: Any = Field(None, description="The result of its last node, if it has one last node.")
    results: Json | None = Field(None, description="The results of all its last nodes, by id.")


class RotateBody(Fields):
    """How the address is replaced."""

    overlap_ms: int = Field(
        86_400_000,
        ge=0,
        le=2_592_000_000,
        strict=True,
        description="How long the old address and its signing secret stay good. Default: a day.",
    )
    signing_secret: str | None = Field(
        None, description="The signing secret of the sender, if it makes its own; otherwise one is made."
    )


class NewAddressAnswer(Answer):
    """A new address. It is shown only now."""

    id: Annotated[str, From("row.id")]
    node_id: Annotated[str, From("row.node_id")]
    url: str = Field(description="The address; whoever knows it may call the webhook.")
    signing_secret: str = Field(description="What the sender signs with, or puts into its header; see `auth`.")
    created_at: Annotated[Time, From("row.created_at")]
    previous_expires_at: Time | None = Field(description="How long the old address stays good; null: there was none.")


class AddressAnswer(Answer):
    """An address, without its secret."""

    id: str
    created_at: Time
    expires_at: Time | None = Field(description="Null: until it is replaced.")


class WebhookNodeAnswer(Answer):
    """A webhook of a workflow."""

    node_id: str
    auth: str
    methods: list[str]
    respond: str
    addresses: list[AddressAnswer] = Field(description="None: make one with `rotate`.")


class RevokedAnswer(Answer):
    """A webhook without an address."""

    node_id: str
    revoked: bool


def received_shape(received: WebhookResult) -> Json:
    """The result of a webhook request."""
    fired, found = received.fired, received.conclusion
    shaped: Json = {
        "action": fired.action,
        "eventId": fired.event_id,
        "runIds": list(fired.run_ids),
        "reason": "duplicate" if fired.is_duplicate and fired.reason is None else fired.reason,
        "message": fired.message,
    }
    if found is not None:
        shaped["status"] = found.row.status
        if found.is_due:
            shaped |= {"result": found.result, "results": dict(found.results)}
    return shaped


def responded(answer: Mapping[str, Any]) -> Response:
    """The answer of a `respond` node, as a response that can do nothing in the name of this server."""
    kept = dict(answer["headers"])
    safe = {name: value for name, value in _SAFE.items() if name.lower() not in {one.lower() for one in kept}}
    body = hide_bytes(encoded_body(answer["body"], answer["contentType"]))
    response = Response(body, answer["status"], {**kept, **safe})
    if answer["body"] is not None:
        response.headers["Content-Type"] = answer["contentType"]
    return response


def shaken(answer: Json | None) -> Response:
    """The answer that a sender expects before its first event, as it expects it: not in an envelope."""
    return Response(status_code=204) if answer is None else Response(dumps(answer), media_type="application/json")


def webhook_node_shape(node: WebhookNode) -> Json:
    """A webhook of a workflow."""
    auth = node.config.get("auth")
    return {
        "nodeId": node.node_id,
        "auth": auth.get("type", "secret-url") if isinstance(auth, Mapping) else "secret-url",
        "methods": list(node.config.get("methods", ["POST"])),
        "respond": node.config.get("respond", "202"),
        "addresses": [_address(row) for row in node.secrets],
    }


def _address(row: SecretRow) -> Json:
    return {"id": row.id, "createdAt": time(row.created_at), "expiresAt": time(row.expires_at)}
