"""Models of OpenAI, and of every server that speaks its protocol.

Sends `Authorization: Bearer <apiKey>` to `<baseUrl>/chat/completions`. Many servers speak this protocol: vendors, and
programs that run models on your own machine, whose address must be open in the outbound guard. `prices` say what each
model costs: without a price a model is not asked, since its cost could not be limited. Give a model on your own machine
the price 0.
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
        "https://api.openai.com/v1",
        description="Where the protocol begins, without `/chat/completions`.",
        max_length=2048,
        pattern=r"^https?://\S+$",
        json_schema_extra={"x-destination": True},
    )
    api_key: str | None = secret(
        None,
        description="The server's key; a server on your own machine may need none.",
        max_length=16_384,
        pattern=r"^[\x21-\x7e]+$",
    )
    json_schema: bool = Field(
        False,
        description="Whether the server holds a model to a JSON Schema (`response_format`). Nodes with a `schema` of "
        "an object then ask for it; they check the answer as ever.",
    )

    @property
    def holds_schema(self) -> bool:
        """As its owner says: servers that do not know it refuse the whole request."""
        return self.json_schema


@http_connector(
    data=Data,
    example={
        "apiKey": "sk-0123456789",
        "model": "gpt-5-mini",
        "prices": {"gpt-5-mini": {"inputUsd": "0.25", "outputUsd": "2.00"}},
    },
    tags=["ai"],
)
def llm_openai(data: Data, request: HttpRequest) -> HttpRequest:
    """Sets the header Authorization."""
    return request if data.api_key is None else with_header(request, "Authorization", f"Bearer {data.api_key}")
