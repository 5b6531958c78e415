"""`/v1/webhooks/{secret}`: inbound requests, which need no key but their address."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from dustrun.api import openapi
from dustrun.api.envelope import EncodedAnswer, answer, failure, request_id, success_body
from dustrun.api.limits import read_body
from dustrun.api.routing import RawRoute
from dustrun.errors import Code, DustrunError, NotFound
from dustrun.operations.declaration.operation import PUBLIC
from dustrun.operations.declaration.parts import Parts, parts_of
from dustrun.operations.shapes.webhooks import WebhookAnswer, received_shape, responded, shaken
from dustrun.sdk.threads import run_sized
from dustrun.services.access.rate_limits import Excess, network_of
from dustrun.services.runs.runs import Conclusion
from dustrun.services.triggers.inbound.webhook_targets import UNKNOWN, Target
from dustrun.services.triggers.inbound.webhooks import Inbound, WebhookRefusal, WebhookResult

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


async def receive_webhook(scope: Scope, receive: Receive, send: Send) -> None:
    """Send a request to a webhook.

    The address needs no key; what else the sender must prove is in the webhook's `auth`. The answer comes once the
    event is stored: 202 if it started a run, 200 if it was skipped or had come before. A webhook that waits for its
    run answers with the run's result, or with whatever its `respond` node says. The methods of the webhook are
    accepted, by default only POST."""
    parts = parts_of(scope)
    target, inbound = await _target(parts, scope), _inbound(parts, scope)
    try:
        received = await _received(parts, target, inbound, scope, receive)
    except WebhookRefusal as refusal:
        # one who sends refused requests fast is told so, and no longer recorded
        parts.access.webhook_refusals.take(target.secret.id, Excess.WEBHOOK_REFUSALS)
        await parts.triggers.webhooks.record(target, inbound, refusal)
        headers = {"Allow": ", ".join(target.sub.config.methods)} if target.sub and refusal.reason == "method" else None
        await failure(refusal.error, request_id(scope), headers)(scope, receive, send)
        return
    if received.conclusion is None and received.handshake is None:
        await answer(received_shape(received), scope, receive, send, _status_of(received))
        return
    response = await run_sized(_size_of(received.conclusion), _response, received, request_id(scope))
    await response(scope, receive, send)


async def _target(parts: Parts, scope: Scope) -> Target:
    """The target of the address; unknown ones are slowed down, as wrong keys are."""
    secret = scope["path_params"]["secret"]
    target = await parts.triggers.webhooks.targets.find(secret)
    if target is None:
        caller = network_of((scope.get("client") or ("",))[0])
        parts.access.webhook_guesses.take(caller, Excess.WEBHOOK_GUESSES)
        raise NotFound(UNKNOWN, code=Code.WEBHOOK_UNKNOWN)
    parts.access.webhook_requests.take(target.secret.id, Excess.WEBHOOK_REQUESTS)
    return target


async def _received(parts: Parts, target: Target, inbound: Inbound, scope: Scope, receive: Receive) -> WebhookResult:
    webhooks = parts.triggers.webhooks
    webhooks.check_method(target, inbound)
    try:
        body = await read_body(scope, receive, parts.settings.max_body_bytes)
    except DustrunError as error:
        if error.code is not Code.BODY_TOO_LARGE:
            raise
        raise WebhookRefusal("too_large", error) from None
    return await webhooks.receive(target, inbound, body)


def _size_of(found: Conclusion | None) -> Any:
    return None if found is None else (found.answer, found.results)


def _status_of(received: WebhookResult) -> int:
    is_over = received.conclusion is not None and received.conclusion.is_due
    return 202 if received.fired.action == "triggered" and not received.fired.is_duplicate and not is_over else 200


def _response(received: WebhookResult, found: str) -> Response:
    conclusion = received.conclusion
    if received.handshake is not None:
        return shaken(received.handshake.answer)
    if conclusion is not None and conclusion.answer is not None:
        return responded(conclusion.answer)
    return EncodedAnswer(success_body(received_shape(received), found), _status_of(received))


def _inbound(parts: Parts, scope: Scope) -> Inbound:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    query = scope.get("query_string", b"").decode("latin-1")
    url = parts.triggers.webhook_secrets.url_of(scope["path_params"]["secret"]) + (f"?{query}" if query else "")
    return Inbound(scope["method"], headers, query, (scope.get("client") or ("",))[0], url)


raw_routes = [RawRoute("/v1/webhooks/{secret}", receive_webhook, method="POST", permission=PUBLIC, also=METHODS)]
_REFUSALS = [
    Code.WEBHOOK_UNKNOWN,
    Code.WEBHOOK_SIGNATURE,
    Code.WEBHOOK_TIMESTAMP,
    Code.PAYLOAD_INVALID,
    Code.METHOD_NOT_ALLOWED,
    Code.RATE_LIMITED,
]


@openapi.later
def _describe() -> None:
    body = {
        "required": False,
        "content": {
            "application/json": {
                "schema": {},
                "examples": {"order": {"value": {"orderId": 17}}},
                "example": {"orderId": 17},
            }
        },
    }
    openapi.add_enveloped(WebhookAnswer)
    content = openapi.enveloped(WebhookAnswer)
    answers = {
        200: {"description": "The event was skipped or had come before, or its run has ended.", "content": content},
        202: {"description": "The event is stored, and its run began.", "content": content},
    }
    openapi.add(raw_routes[0], "Webhooks", answers, _REFUSALS, requestBody=body)
