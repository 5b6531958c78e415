"""Requests as both clients send them; a body holds no float, since a float has lost the digits of an amount."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Mapping
from typing import Any, Final, Literal
from urllib.parse import quote

from dustrun.core.values import exact_json
from dustrun.records import dataclass

Mode = Literal["live", "simulate", "dust"]
DEFAULT_SERVER: Final = "http://127.0.0.1:8080"
_RUN_ID: Final = re.compile(r"run_[A-Za-z0-9_-]{1,64}")
_MODES: Final[dict[str, dict[str, bool]]] = {"live": {}, "simulate": {"simulate": True}, "dust": {"dustTest": True}}


@dataclass(frozen=True, slots=True)
class Call:
    """One request. A `repeatable` one has the same effect when it is sent twice."""

    method: str
    path: str
    content: bytes | None
    headers: Mapping[str, str]
    repeatable: bool


def server_address(given: str | None) -> str:
    """The given address, else `DUSTRUN_SERVER`, else this machine's."""
    address = given or os.environ.get("DUSTRUN_SERVER") or DEFAULT_SERVER
    return address if "://" in address else f"http://{address}"


def own_headers(key: str | None) -> dict[str, str]:
    """The headers of every request, with the given key, else `DUSTRUN_API_KEY`."""
    secret = key or os.environ.get("DUSTRUN_API_KEY")
    headers = {"Accept": "application/json", "User-Agent": "dustrun-client", "Dustrun-Exact-Numbers": "true"}
    return headers | ({"Authorization": f"Bearer {secret.strip()}"} if secret else {})


def call_of(method: str, path: str, body: Any = None, idempotency_key: str | None = None) -> Call:
    """A request of any operation; the same arguments make the same bytes, as an `Idempotency-Key` demands."""
    headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
    content = None
    if body is not None:
        _refuse_floats(body, "body")
        content = exact_json.dumps(body, canonical=True)
        headers["Content-Type"] = "application/json"
    return Call(method, path, content, headers, method == "GET" or idempotency_key is not None)


def run_call(
    workflow_id: str,
    payload: Mapping[str, Any] | None,
    mode: Mode,
    run_id: str,
    options: Mapping[str, Any],
) -> Call:
    """The run call. Its `Idempotency-Key` is made of its id, so that a second one starts nothing."""
    if mode not in _MODES:
        raise ValueError(f'mode is "{mode}"; it must be one of {", ".join(_MODES)}.')
    if not _RUN_ID.fullmatch(run_id):
        raise ValueError(f'run_id is "{run_id}"; it must be run_ and 1 to 64 letters, digits, "_" or "-".')
    given = {name: value for name, value in options.items() if value is not None}
    body = {"runId": run_id, **_MODES[mode], **given}
    if payload is not None:
        _refuse_floats(payload, "payload")
        body["payload"] = payload
    return call_of("POST", f"/v1/workflows/{quote(workflow_id, safe='')}/run", body, f"start-{run_id}")


def run_path(run_id: str) -> str:
    """The path of one run."""
    return f"/v1/runs/{quote(run_id, safe='')}"


def new_run_id() -> str:
    """An id for a run whose caller chose none: with it a call that got no answer can be sent again."""
    return f"run_{uuid.uuid4().hex}"


def _refuse_floats(value: Any, field: str) -> None:
    if isinstance(value, float):
        raise TypeError(f"{field} is the float {value!r}, which is not exact; give an int, a Decimal or a text.")
    if isinstance(value, Mapping):
        for name, part in value.items():
            _refuse_floats(part, f"{field}.{name}")
    elif isinstance(value, list | tuple):
        for index, part in enumerate(value):
            _refuse_floats(part, f"{field}[{index}]")
