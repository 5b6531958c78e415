"""A server of tools, which speaks the Model Context Protocol: over HTTP, or as a program of this machine.

The action `mcp-tool` calls its tools. Before it can, `POST /v1/connectors/{id}/tools` reads them from the server and
keeps what they are called, what they take and what they return. Each tool counts as a write until you say that it only
reads.

`url` is the address of a server over Streamable HTTP; `headers`, such as `Authorization`, are secret and are sent to
the allowed hosts only. `command`, `args` and `env` start a program and speak to it through its pipes, for each call
anew; the server's operator must have named the command in the setting `mcp_commands`.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Annotated, Any, Final

from pydantic import Field, StringConstraints, model_validator

from dustrun.sdk import HttpRequest
from dustrun.sdk.connector import Connector
from dustrun.sdk.fields import Fields

_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_VALUE: Final = re.compile(r"[\x20-\x7e]{6,16384}")  # a shorter value could not be masked
_SECRET: Final[dict[str, Any]] = {"x-secret": True}
_PLACE: Final[dict[str, Any]] = {"x-destination": True}
_Word = Annotated[str, StringConstraints(min_length=1, max_length=4096, pattern=r"^[^\x00\n]+$")]


class Data(Fields):
    """Where the server is, and what it wants."""

    url: str | None = Field(
        None,
        description="Address of the server's MCP endpoint.",
        max_length=2048,
        pattern=r"^https?://\S+$",
        json_schema_extra=_PLACE,
    )
    headers: dict[str, str] = Field(
        {}, description="Headers of every request; secret.", max_length=20, repr=False, json_schema_extra=_SECRET
    )
    command: _Word | None = Field(
        None,
        description="Program to start instead of `url`; one of the setting `mcp_commands`.",
        json_schema_extra=_PLACE,
    )
    args: list[_Word] = Field([], description="Its arguments.", max_length=50, json_schema_extra=_PLACE)
    env: dict[str, str] = Field(
        {},
        description="Environment variables that it gets; secret.",
        max_length=20,
        repr=False,
        json_schema_extra=_SECRET,
    )

    @model_validator(mode="after")
    def _check(self) -> Data:
        if (self.url is None) == (self.command is None):
            raise ValueError("give either `url` or `command`")
        if self.url is not None and (self.args or self.env):
            raise ValueError("`args` and `env` go with `command`")
        if self.command is not None and self.headers:
            raise ValueError("`headers` go with `url`")
        _check_pairs(self.headers, _NAME, "a header")
        _check_pairs(self.env, _VARIABLE, "a variable")
        return self


def _check_pairs(pairs: dict[str, str], names: re.Pattern[str], what: str) -> None:
    for name, value in pairs.items():
        if not names.fullmatch(name) or not _VALUE.fullmatch(value):
            raise ValueError(f"{what} has a name without blanks, and a value of 6 to 16,384 printable characters")


def _attach(data: Data, request: HttpRequest) -> HttpRequest:
    """Sets the headers, in the place of the request's own."""
    wanted = {name.lower() for name in data.headers}
    kept = {name: value for name, value in request.headers.items() if name.lower() not in wanted}
    return replace(request, headers={**kept, **data.headers})


mcp = Connector(
    "http",
    Data,
    _attach,
    {"url": "https://mcp.example.com/mcp", "headers": {"Authorization": "Bearer tok_0123456789"}},
    tags=("mcp",),
)
