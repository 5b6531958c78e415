"""An access key of AWS: signs each request (Signature Version 4).

For services that take signed requests, such as SQS, and for servers that speak their protocol. `service` and `region`
are part of the signature; one connector signs for one service. S3 signs differently and is not supported.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote, urlsplit

from pydantic import Field

from dustrun import clock
from dustrun.sdk import HttpRequest
from dustrun.sdk.connector import HttpData, http_connector, with_header
from dustrun.sdk.fields import secret

_NAME: Final = r"^[a-z0-9][a-z0-9-]*$"
_PORTS: Final = {"http": 80, "https": 443}


class Data(HttpData):
    """The key, and what it signs for."""

    access_key_id: str = Field(
        min_length=1, max_length=128, pattern=r"^[\x21-\x7e]+$", description="The key's id, which is no secret."
    )
    secret_access_key: str = secret(
        min_length=1, max_length=1024, pattern=r"^[\x21-\x7e]+$", description="The key's secret."
    )
    session_token: str | None = secret(
        None, min_length=1, max_length=8192, pattern=r"^[\x21-\x7e]+$", description="The token of a temporary key."
    )
    region: str = Field(min_length=1, max_length=64, pattern=_NAME, description="The region, like `eu-west-1`.")
    service: str = Field(
        "sqs", min_length=1, max_length=64, pattern=_NAME, description="The service, as signatures name it."
    )


@http_connector(
    data=Data,
    example={
        "accessKeyId": "AKIAIOSFODNN7EXAMPLE",
        "secretAccessKey": "secret-0123456789",
        "region": "eu-west-1",
        "service": "sqs",
    },
    tags=["http", "queue"],
    signs=True,
)
def aws(data: Data, request: HttpRequest) -> HttpRequest:
    """Sets the headers Authorization, X-Amz-Date and, of a temporary key, X-Amz-Security-Token. A date that the request
    has stays."""
    given = {name.lower(): value for name, value in request.headers.items()}
    if "x-amz-date" not in given:
        now = datetime.fromtimestamp(clock.now_ms() / 1000, UTC)
        request = with_header(request, "X-Amz-Date", now.strftime("%Y%m%dT%H%M%SZ"))
    if data.session_token is not None:
        request = with_header(request, "X-Amz-Security-Token", data.session_token)
    headers = _signed_headers(request)
    at, names = headers["x-amz-date"], ";".join(headers)
    scope = f"{at[:8]}/{data.region}/{data.service}/aws4_request"
    digest = hashlib.sha256(_canonical(request, headers, names).encode()).hexdigest()
    key = f"AWS4{data.secret_access_key}".encode()
    for part in (*scope.split("/"), f"AWS4-HMAC-SHA256\n{at}\n{scope}\n{digest}"):
        key = hmac.digest(key, part.encode(), "sha256")
    says = f"Credential={data.access_key_id}/{scope}, SignedHeaders={names}, Signature={key.hex()}"
    return with_header(request, "Authorization", f"AWS4-HMAC-SHA256 {says}")


def _signed_headers(request: HttpRequest) -> dict[str, str]:
    """The headers that the signature covers, by name: the host, and those that a service acts upon."""
    url = urlsplit(request.url)
    host, port = url.hostname or "", url.port
    shown = f"[{host}]" if ":" in host else host
    covered = {"host": shown if port in (None, _PORTS.get(url.scheme)) else f"{shown}:{port}"}
    for name, value in request.headers.items():
        if name.lower().startswith("x-amz-") or name.lower() == "content-type":
            covered[name.lower()] = " ".join(value.split())
    return dict(sorted(covered.items()))


def _canonical(request: HttpRequest, headers: dict[str, str], names: str) -> str:
    url = urlsplit(request.url)
    pairs = sorted(one.partition("=")[::2] for one in url.query.split("&") if one)
    return "\n".join(
        (
            request.method.upper(),
            quote(url.path or "/", safe="/~"),
            "&".join(f"{name}={value}" for name, value in pairs),
            "".join(f"{name}:{value}\n" for name, value in headers.items()),
            names,
            hashlib.sha256(request.body or b"").hexdigest(),
        )
    )
