"""Reads answers of a server: the `data` of a success, or the error that it tells. Numbers stay exact."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dustrun.client.errors import ServerError, Unreachable, class_of
from dustrun.core.values import exact_json


def data_of(status: int, headers: Mapping[str, str], body: bytes) -> Any:
    """The data of a success; raises the error that the answer tells, or `Unreachable` if it is none of Dustrun."""
    envelope = _envelope(body)
    if envelope is None:
        raise Unreachable(f"The address answered {status}, but not like a Dustrun server.")
    if status < 300:
        return envelope.get("data")
    code = int(envelope["code"])
    raise class_of(status, code)(
        status,
        code,
        str(envelope.get("message", "")),
        details=[one for one in envelope.get("details") or () if isinstance(one, dict)],
        request_id=envelope.get("requestId"),
        retry_after_s=_seconds(headers.get("retry-after")),
    )


def may_pass(status: int, error: Exception) -> bool:
    """Whether the same call may succeed a little later: the server is busy or starts, or only a proxy answered."""
    return status in (429, 503) or (status >= 500 and not isinstance(error, ServerError))


def _envelope(body: bytes) -> dict[str, Any] | None:
    try:
        found = exact_json.loads_own(body)
    except exact_json.JsonError:
        return None
    return found if isinstance(found, dict) and isinstance(found.get("code"), int) else None


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and text.isdecimal() else None
