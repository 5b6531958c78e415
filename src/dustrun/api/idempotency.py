"""The `Idempotency-Key` header: reading it, and replaying the answer that its first request got."""

from __future__ import annotations

import hashlib
import re
from collections.abc import MutableMapping
from typing import Any

from starlette.responses import Response

from dustrun.api.envelope import Answered, request_id_of_body
from dustrun.api.parts import Parts
from dustrun.errors import Code, Conflict, Invalid, Problem, Temporary
from dustrun.services.access import idempotency
from dustrun.services.access.idempotency import Pending
from dustrun.services.access.principal import Principal
from dustrun.storage.access.idempotency import StoredAnswer

_KEY = re.compile(r"^[\x21-\x7e]{1,255}$")


def pending(
    parts: Parts, scope: MutableMapping[str, Any], principal: Principal, body: bytes, *, secret: bool = False
) -> Pending | None:
    """The request's key with the hash of method, path, query, body and what the caller may do; None without a key.

    What the caller may do: the answer is looked up before the handler asks for limits, and a key that is limited must
    not read what another one was answered.

    The hash of a `secret` body holds the caller's API key too, which the store does not know: a password cannot be
    found by hashing guesses.
    """
    headers = dict(scope["headers"])
    if b"idempotency-key" not in headers:
        return None
    salt = headers.get(b"authorization", b"") if secret else b""
    return _pending(parts, scope, principal, salt + body, headers[b"idempotency-key"].decode("latin-1"))


def _pending(parts: Parts, scope: MutableMapping[str, Any], principal: Principal, body: bytes, key: str) -> Pending:
    if not _KEY.fullmatch(key):
        problem = Problem("Idempotency-Key", "must be 1 to 255 printable ASCII characters without spaces")
        raise Invalid("The Idempotency-Key is malformed.", code=Code.PARAMETER_INVALID, details=[problem])
    digest = hashlib.sha256()
    asked = (scope["method"].encode(), scope["path"].encode(), scope.get("query_string", b""), body)
    for part in (*asked, principal.reach.encode()):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return Pending(
        org_id=principal.org_id,
        key=key,
        request_hash=digest.hexdigest(),
        keep_ms=parts.settings.idempotency_hours * 3_600_000,
    )


async def find(parts: Parts, request: Pending) -> Response | None:
    """The first answer again, when there was one; raises `Conflict` when the key cannot be replayed."""
    stored = await idempotency.find(parts.database, request)
    return None if stored is None else _replay(stored, request)


async def replay(parts: Parts, request: Pending) -> Response:
    """After `Duplicate`: the answer of the request that won."""
    response = await find(parts, request)
    if response is None:
        raise Temporary("The request that holds this Idempotency-Key did not finish; nothing was started.")
    return response


def _replay(stored: StoredAnswer, request: Pending) -> Response:
    if stored.request_hash != request.request_hash:
        raise Conflict(
            "This Idempotency-Key was used with another request, or by a key that may do other things. Use a new one.",
            code=Code.IDEMPOTENCY_KEY_REUSED,
        )
    if stored.response is None:
        raise Conflict(
            "The first answer bore a secret and was not stored.",
            code=Code.IDEMPOTENCY_NOT_STORED,
            details=[{"field": "id", "message": "created by the first request", "id": stored.resource_id}],
        )
    headers = {"Idempotent-Replayed": "true"}
    first = request_id_of_body(stored.response)
    if first is not None:
        headers["X-Request-ID"] = first
    return Answered(stored.response.encode(), stored.status, headers=headers)
