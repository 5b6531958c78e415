"""A secret in the query of the URL.

For APIs that expect their key as a query parameter, such as `?api_key=…`. Prefer a header if the API accepts one, since
URLs appear in the logs of the API's servers. Dustrun does not log the parameter: it is added when the request is sent.
"""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import quote, urlsplit, urlunsplit

from pydantic import Field

from dustrun.sdk import HttpRequest
from dustrun.sdk.connector import HttpData, http_connector
from dustrun.sdk.fields import secret


class Data(HttpData):
    """The parameter."""

    name: str = Field(
        description="Name of the query parameter.", max_length=256, pattern=r"^[^\s&=#?]+$", examples=["api_key"]
    )
    value: str = secret(description="Its value.", min_length=1, max_length=4096, pattern=r"^[^\x00-\x1f\x7f]+$")


@http_connector(
    data=Data,
    example={"name": "api_key", "value": "key_0123456789", "testUrl": "https://api.example.com/me"},
    tags=["http"],
)
def http_query(data: Data, request: HttpRequest) -> HttpRequest:
    """Sets the parameter, replacing any of the same name."""
    parts = urlsplit(request.url)
    name = quote(data.name, safe="")
    kept = [part for part in parts.query.split("&") if part and part.partition("=")[0] not in (name, data.name)]
    query = "&".join([*kept, f"{name}={quote(data.value, safe='')}"])
    return replace(request, url=urlunsplit(parts._replace(query=query)))
