"""The `Idempotency-Key` header: parses it, and replays the answer of the first request."""

from __future__ import annotations

import hashlib
import re
from collections.abc import MutableMapping
from typing import Any

from starlette.responses import Response

from dustrun.api.envelope import EncodedAnswer, request_id_of_body
from dustrun.errors import Code, Conflict, Invalid, Problem, Temporary
from dustrun.operations.declaration.parts import Parts
from dustrun.services.access import idempotency
from dustrun.services.access.idempotency import PendingKey
from dustrun.services.access.principal import Principal
from dustrun.storage.access.idempotency import StoredAnswer

_KEY = re.compile(r"^[\x21-\x7e]{1,255}$")


def pending(
    parts: Parts, scope: MutableMapping[str, Any], principal: Principal, body: bytes, *, secret: bool = False
) -> PendingKey | None:
    """The request's key with a hash of method, path, query, body and the caller's rights; None without a key.

    The rights are included because the answer is looked up before the handler checks limits, and a limited key must not
    read the answer to another one.

    The hash of a `secret` body also includes the caller's API key, which the store does not contain, so that a password
    cannot be found by hashing guesses.
    """
    headers = dict(scope["headers"])
    if b"idempotency-key" not in headers:
        return None
    salt = headers.get(b"authorization", b"") if secret else b""
    return _pending(parts, scope, principal, salt + body, headers[b"idempotency-key"].decode("latin-1"))


def _pending(parts: Parts, scope: MutableMapping[str, Any], principal: Principal, body: bytes, key: str) -> PendingKey:
    if not _KEY.fullmatch(key):
        problem = Problem("Idempotency-Key", "must be 1 to 255 printable ASCII characters without spaces")
        raise Invalid("The Idempotency-Key is malformed.", code=Code.PARAMETER_INVALID, details=[problem])
    digest = hashlib.sha256()
    asked = (scope["method"].encode(), scope["path"].encode(), scope.get("query_string", b""), body)
    for part in (*asked, principal.reach.encode()):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return PendingKey(
        org_id=principal.org_id,
        key=key,
        request_hash=digest.hexdigest(),
        keep_ms=parts.settings.idempotency_hours * 3_600_000,
    )


async def find(parts: Parts, request: PendingKey) -> Response | None:
    """Returns the first answer again, if there is one; raises `Conflict` if the key cannot be replayed."""
    stored = await idempotency.find(parts.database, request)
    return None if stored is None else _replay(stored, request)


async def replay(parts: Parts, request: PendingKey) -> Response:
    """After `Duplicate`: returns the answer of the request that was first."""
    response = await find(parts, request)
    if response is None:
        raise Temporary("Another request with this Idempotency-Key has not finished; nothing was started.")
    return response


def _replay(stored: StoredAnswer, request: PendingKey) -> Response:
    if stored.request_hash != request.request_hash:
        raise Conflict(
            "This Idempotency-Key was already used for a different request, or by an API key with other "
            "rights. Use a new one.",
            code=Code.IDEMPOTENCY_KEY_REUSED,
        )
    if stored.response is None:
        raise Conflict(
            "The first answer contained a secret and was not stored.",
            code=Code.IDEMPOTENCY_NOT_STORED,
            details=[{"field": "id", "message": "created by the first request", "id": stored.resource_id}],
        )
    headers = {"Idempotent-Replayed": "true"}
    first = request_id_of_body(stored.response)
    if first is not None:
        headers["X-Request-ID"] = first
    return EncodedAnswer(stored.response.encode(), stored.status, headers=headers)
