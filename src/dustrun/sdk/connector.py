"""The contract of a connector: stored credentials for an outside system, one type a file of `connectors/`.

The file's name in kebab case is the type, its docstring what people read of it. Three kinds:

- `@http_connector`: a function `attach(data, request)` that returns the request with the credential on it;
- `@token_connector`: a function `ask(data)` that returns the request for an access token (OAuth 2); the server sends
  it, keeps the token sealed, and attaches it as a bearer token;
- `@secret_connector`: a function `check(data)` that raises `Invalid` for data that cannot work; nothing is attached,
  the action that uses it reads `ctx.connection.data`.

Fields of `data` that are secret are declared with `secret()`: they are sealed, never answered, and masked by value
wherever a run might show them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pydantic import BaseModel, Field

from dustrun.core.text.masking import LEAST
from dustrun.core.values.fields import Fields
from dustrun.sdk.context import HttpRequest
from dustrun.sdk.fields import hinted_fields

Kind = Literal["http", "token", "secret"]
MASK = "•••"


@dataclass(frozen=True, slots=True)
class Connector:
    """One type of connectors. `type` comes from the file's name when it is discovered."""

    kind: Kind
    data: type[BaseModel]
    run: Callable[..., Any]
    example: dict[str, Any] = field(repr=False)
    moves_money: bool = False
    tags: tuple[str, ...] = ()
    type: str = ""
    summary: str = ""
    description: str = ""

    @property
    def attaches(self) -> bool:
        """Whether it puts a credential on HTTP requests."""
        return self.kind != "secret"

    @property
    def secret_fields(self) -> frozenset[str]:
        """The wire names of its secret fields."""
        return hinted_fields(self.data, "x-secret")

    def data_schema(self) -> dict[str, Any]:
        """The JSON Schema of data that is accepted: a secret is long enough to be masked. The model alone takes less,
        so that what was stored before goes on working."""
        schema = self.data.model_json_schema(by_alias=True)
        for name in self.secret_fields:
            shown = schema["properties"][name]
            for variant in shown.get("anyOf", [shown]):
                if variant.get("type") == "string":
                    variant["minLength"] = max(LEAST, variant.get("minLength", 0))
        return schema

    def masked(self, data: BaseModel) -> dict[str, Any]:
        """The data as anyone may see it."""
        shown = data.model_dump(by_alias=True, exclude_none=True)
        return {name: MASK if name in self.secret_fields else value for name, value in shown.items()}

    def secrets(self, data: BaseModel) -> list[str]:
        """The secret texts in the data."""
        shown = data.model_dump(by_alias=True)
        return [str(shown[name]) for name in sorted(self.secret_fields) if shown.get(name)]


class HttpData(Fields):
    """What connectors for HTTP have in common."""

    test_url: str | None = Field(
        None,
        max_length=2048,
        pattern=r"^https?://\S+$",
        description="An address that answers 2xx to a GET with this credential; the test call asks it.",
    )


def http_connector(
    *, data: type[HttpData], example: dict[str, Any], moves_money: bool = False, tags: Sequence[str] = ()
) -> Callable[[Callable[[Any, HttpRequest], HttpRequest]], Connector]:
    """Declares a type whose `attach(data, request)` returns the request with the credential on it."""

    def declare(attach: Callable[[Any, HttpRequest], HttpRequest]) -> Connector:
        return Connector("http", data, attach, example, moves_money, tuple(tags))

    return declare


def token_connector(
    *, data: type[HttpData], example: dict[str, Any], moves_money: bool = False, tags: Sequence[str] = ()
) -> Callable[[Callable[[Any], HttpRequest]], Connector]:
    """Declares a type whose `ask(data)` returns the request for an access token as OAuth 2 answers it (RFC 6749 §5.1).
    `data.refresh_token`, when there is one, is replaced by the one that an answer brings."""

    def declare(ask: Callable[[Any], HttpRequest]) -> Connector:
        return Connector("token", data, ask, example, moves_money, tuple(tags))

    return declare


def secret_connector(
    *, data: type[BaseModel], example: dict[str, Any], moves_money: bool = False, tags: Sequence[str] = ()
) -> Callable[[Callable[[Any], None]], Connector]:
    """Declares a type that an action reads by `ctx.connection`; `check(data)` raises `Invalid`."""

    def declare(check: Callable[[Any], None]) -> Connector:
        return Connector("secret", data, check, example, moves_money, tuple(tags))

    return declare


def with_header(request: HttpRequest, name: str, value: str) -> HttpRequest:
    """The request with a header, in place of one of that name."""
    kept = {given: text for given, text in request.headers.items() if given.lower() != name.lower()}
    return replace(request, headers={**kept, name: value})
