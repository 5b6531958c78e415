"""Models of Anthropic.

Sends `x-api-key: <apiKey>` to `<baseUrl>/v1/messages`. `prices` say what each model costs: without a price a model is
not asked, since its cost could not be limited.
"""

from __future__ import annotations

from pydantic import Field

from dustrun.sdk import HttpRequest
from dustrun.sdk.connector import http_connector, with_header
from dustrun.sdk.fields import secret
from dustrun.sdk.llm.connection import ModelData


class Data(ModelData):
    """The server, its key, and the prices of its models."""

    base_url: str = Field(
        "https://api.anthropic.com",
        description="Where the protocol begins, without `/v1/messages`.",
        max_length=2048,
        pattern=r"^https?://\S+$",
        json_schema_extra={"x-destination": True},
    )
    api_key: str = secret(description="The server's key.", min_length=1, max_length=16_384, pattern=r"^[\x21-\x7e]+$")


@http_connector(
    data=Data,
    example={
        "apiKey": "sk-ant-0123456789",
        "model": "claude-sonnet-5",
        "prices": {"claude-sonnet-5": {"inputUsd": "3.00", "outputUsd": "15.00"}},
    },
    tags=["ai"],
)
def llm_anthropic(data: Data, request: HttpRequest) -> HttpRequest:
    """Sets the header x-api-key."""
    return with_header(request, "x-api-key", data.api_key)
