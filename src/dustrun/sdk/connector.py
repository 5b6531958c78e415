"""The contract of a connector: stored credentials for an external system, one type per file of `connectors/`.

The file name in kebab case is the type; its docstring is the documentation. There are three kinds:

- `@http_connector`: `attach(data, request)` returns the request with the credential added;
- `@token_connector`: `ask(data)` returns the request for an access token (OAuth 2); the server sends it, stores the
  token encrypted, and adds it to requests as a bearer token;
- `@secret_connector`: `check(data)` raises `Invalid` for unusable data; the credential is not added to requests, the
  action reads `ctx.connection.data`.

Secret fields of `data` are declared with `secret()`: they are stored encrypted, never returned, and masked by value
wherever a run might show them.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import field, replace
from typing import Any, Final, Literal
from urllib.parse import quote, urlencode

from pydantic import BaseModel, Field

from dustrun.core.text.masking import LEAST
from dustrun.core.values.fields import Fields
from dustrun.records import dataclass
from dustrun.sdk.context import HttpRequest
from dustrun.sdk.fields import hinted_fields, schema_of
from dustrun.sdk.package import Package

Kind = Literal["http", "token", "secret"]
MASK = "•••"
CONSENT: Final = "oauth2-authorization-code"
"""The type whose tokens a person has to consent to."""


@dataclass(frozen=True, slots=True)
class Connector:
    """One connector type. `type` is set from the file name when it is discovered."""

    kind: Kind
    data: type[BaseModel]
    run: Callable[..., Any]
    example: dict[str, Any] = field(repr=False)
    moves_money: bool = False
    tags: tuple[str, ...] = ()
    signs: bool = False
    """Whether it adds a signature, which is of use for that request alone, instead of a secret."""
    type: str = ""
    summary: str = ""
    description: str = ""
    package: Package | None = None

    @property
    def attaches(self) -> bool:
        """Whether it adds a credential to HTTP requests."""
        return self.kind != "secret"

    @property
    def needs_consent(self) -> bool:
        """Whether its tokens come from a person's consent."""
        return self.type == CONSENT

    @property
    def secret_fields(self) -> frozenset[str]:
        """The wire names of its secret fields."""
        return hinted_fields(self.data, "x-secret")

    def data_schema(self) -> dict[str, Any]:
        """The JSON Schema of new data, whose secrets must be long enough to be masked. The model itself accepts shorter
        ones, so that data stored earlier stays valid."""
        schema = schema_of(self.data)
        for name in self.secret_fields:
            shown = schema["properties"][name]
            for variant in shown.get("anyOf", [shown]):
                if variant.get("type") == "string":
                    variant["minLength"] = max(LEAST, variant.get("minLength", 0))
        return schema

    def masked(self, data: BaseModel) -> dict[str, Any]:
        """The data with its secrets masked."""
        shown = data.model_dump(by_alias=True, exclude_none=True)
        hidden = self.secret_fields
        return {
            name: MASK if name in hidden else value
            for name, value in shown.items()
            if name not in hidden or value not in ({}, [])
        }

    def secrets(self, data: BaseModel) -> list[str]:
        """The values of the secret fields; of one that has several, each."""
        shown = data.model_dump(by_alias=True)
        found = [shown[name] for name in sorted(self.secret_fields) if shown.get(name)]
        several = (value.values() if isinstance(value, dict) else (value,) for value in found)
        return [str(value) for values in several for value in values]


class HttpData(Fields):
    """Base of the data of connectors for HTTP."""

    test_url: str | None = Field(
        None,
        max_length=2048,
        pattern=r"^https?://\S+$",
        description="A URL that answers a GET with this credential with 2xx; the connector test requests it.",
    )


def http_connector(
    *,
    data: type[HttpData],
    example: dict[str, Any],
    moves_money: bool = False,
    tags: Sequence[str] = (),
    signs: bool = False,
) -> Callable[[Callable[[Any, HttpRequest], HttpRequest]], Connector]:
    """Declares a type whose `attach(data, request)` returns the request with the credential added."""

    def declare(attach: Callable[[Any, HttpRequest], HttpRequest]) -> Connector:
        return Connector("http", data, attach, example, moves_money, tuple(tags), signs)

    return declare


def token_connector(
    *, data: type[HttpData], example: dict[str, Any], moves_money: bool = False, tags: Sequence[str] = ()
) -> Callable[[Callable[[Any], HttpRequest]], Connector]:
    """Declares a type whose `ask(data)` returns the request for an access token (response as in RFC 6749 §5.1). If the
    response contains a new refresh token, it replaces `data.refresh_token`."""

    def declare(ask: Callable[[Any], HttpRequest]) -> Connector:
        return Connector("token", data, ask, example, moves_money, tuple(tags))

    return declare


def secret_connector(
    *, data: type[BaseModel], example: dict[str, Any], moves_money: bool = False, tags: Sequence[str] = ()
) -> Callable[[Callable[[Any], None]], Connector]:
    """Declares a type that actions read through `ctx.connection`; `check(data)` raises `Invalid` for unusable data."""

    def declare(check: Callable[[Any], None]) -> Connector:
        return Connector("secret", data, check, example, moves_money, tuple(tags))

    return declare


def with_header(request: HttpRequest, name: str, value: str) -> HttpRequest:
    """The request with a header set, replacing one with that name in any case."""
    kept = {given: text for given, text in request.headers.items() if given.lower() != name.lower()}
    return replace(request, headers={**kept, name: value})


# Shared by OAuth 2 connector types: the client, and the token request.


SECRET: Final[dict[str, Any]] = {"min_length": 1, "max_length": 16_384, "pattern": r"^[\x21-\x7e]+$"}
_TIMEOUT_S: Final = 20.0
_MAX_BYTES: Final = 65_536


class TokenData(HttpData):
    """OAuth 2 client data that every grant needs."""

    token_url: str = Field(
        description="The provider's token endpoint; the client's secret is sent there.",
        max_length=2048,
        pattern=r"^https?://\S+$",
        json_schema_extra={"x-destination": True},
    )
    client_id: str = Field(description="The client ID.", min_length=1, max_length=1024, pattern=r"^[\x21-\x7e]+$")
    client_auth: Literal["header", "body"] = Field(
        "header", description="Where the client's secret goes: the header Authorization, or the form."
    )
    scope: str | None = Field(None, description="Scopes, separated by spaces.", max_length=2048)


def token_request(data: TokenData, client_secret: str | None, **form: str | None) -> HttpRequest:
    """The token request (RFC 6749 §2.3.1, §4.4.2, §6); form fields that are None are omitted."""
    fields = {name: value for name, value in {**form, "scope": data.scope}.items() if value is not None}
    headers = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
    if client_secret is not None and data.client_auth == "header":
        pair = f"{quote(data.client_id, safe='')}:{quote(client_secret, safe='')}"
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    else:
        fields["client_id"] = data.client_id
        if client_secret is not None:
            fields["client_secret"] = client_secret
    return HttpRequest(
        method="POST",
        url=data.token_url,
        headers=headers,
        body=urlencode(fields).encode(),
        timeout_s=_TIMEOUT_S,
        max_redirects=0,
        max_bytes=_MAX_BYTES,
        safe=True,  # a repeated request only issues another token
    )
