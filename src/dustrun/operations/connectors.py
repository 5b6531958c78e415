"""`/v1/connectors`: stored credentials for other systems. Secrets are write-only."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from dustrun.core.values.fields import Fields
from dustrun.errors import Code
from dustrun.operations.declaration.answers import STORED, Answer, From, PageAnswer, Time
from dustrun.operations.declaration.fields import Description, Name, Paged, Text, Version
from dustrun.operations.declaration.operation import Noun
from dustrun.operations.declaration.parts import Call
from dustrun.services.access.paging import Page
from dustrun.services.connectors.connectors import MAX_HOSTS, ConnectorChange, ConnectorTestResult, NewConnector
from dustrun.services.connectors.grants import state_of
from dustrun.storage.data.connectors import ConnectorRow

noun = Noun("Connectors")

Data = Annotated[
    dict[str, Any],
    Field(
        description="Data as the type's `dataSchema` requires. Secret fields are encrypted and never returned.",
        examples=[{"token": "tok_0123456789"}],
    ),
]
Hosts = Annotated[
    list[Annotated[Text, Field(max_length=300)]],
    Field(
        max_length=MAX_HOSTS,
        description=(
            "Hosts that may receive the credential: `api.example.com` or `*.example.com`, with `:port` for a port "
            "other than 443, and with `http://` for an unencrypted connection."
        ),
        examples=[["api.example.com"]],
    ),
]


class CreateConnector(Fields):
    """A new connector."""

    type: Text = Field(max_length=128, description="One of `/v1/connector-types`.", examples=["http-bearer"])
    name: Name = Field(description="Display name.", examples=["Orders API"])
    description: Description | None = Field(None, description="Free text.")
    data: Data
    allowed_hosts: Hosts = Field(default_factory=list)
    moves_money: bool | None = Field(
        None, description="Whether its credential can move money; a dust test then refuses to write with it."
    )


class UpdateConnector(Fields):
    """Fields to change; absent fields stay as they are."""

    name: Name | None = Field(None, description="Display name.")
    description: Description | None = Field(None, description="Free text.")
    data: Data | None = Field(
        None, description="The complete new data; a secret field that is absent or `•••` keeps its value."
    )
    allowed_hosts: Hosts | None = Field(
        None, description="The complete new list. To add a host, send the secrets of `data` again."
    )
    moves_money: bool | None = Field(None, description="Whether its credential can move money.")
    expected_version: Version | None = Field(None, description="Answers 409 unless the connector has this version.")


class ConnectorTest(Fields):
    """Options of a connector test."""

    url: Text | None = Field(
        None, max_length=2048, description="A URL within `allowedHosts`. Default: the `testUrl` of the data."
    )


class ConnectorFailure(Answer):
    """How calls with a connector fail."""

    what: Literal["refused", "reconnect", "unreachable"] = Field(
        description="`refused`: its credential; `reconnect`: its provider issues no token; `unreachable`: no answer."
    )
    message: str


class ConnectorAnswer(Answer):
    """A connector, without its secrets."""

    id: str
    type: str
    name: str
    description: str | None
    masked_data: Annotated[dict[str, Any], From("masked"), STORED] = Field(
        description="The data, with `•••` in place of every secret."
    )
    allowed_hosts: Annotated[list[str], STORED]
    moves_money: bool
    version: int = Field(description="Increases with every change.")
    failing_since: Time | None = Field(None, description="Since when calls with it fail; null: they do not.")
    failure: Annotated[ConnectorFailure | None, STORED] = Field(None, description="How they fail.")
    consent: Annotated[Literal["notConnected", "connected", "needsReconnecting"] | None, From(state_of)] = Field(
        None,
        description="Whether its provider has granted access, with a person's consent; null: its type needs none.",
    )
    connected_at: Time | None = Field(None, description="When a person last consented.")
    created_at: Time
    updated_at: Time


class ConnectorTestAnswer(Answer):
    """Result of a connector test."""

    ok: bool
    message: str
    status: int | None = Field(description="HTTP status of the answer.")


@noun.get(
    "/v1/connectors",
    permission="connector:read",
    answers=PageAnswer[ConnectorAnswer],
)
async def list_connectors(
    call: Call,
    paging: Paged,
    type: Annotated[Text | None, Field(max_length=128, description="Only connectors of this type.")] = None,
) -> Page[ConnectorRow]:
    """List the organisation's connectors, newest first."""
    return await call.parts.data.connectors.list_page(call.principal, type, paging)


@noun.post(
    "/v1/connectors",
    permission="connector:write",
    answers=ConnectorAnswer,
    refusals=[Code.VAULT_LOCKED, Code.CONNECTOR_LIMIT],
    secret_body=True,
    example={
        "type": "http-bearer",
        "name": "Orders",
        "data": {"token": "a-token-of-the-outside-system"},
        "allowedHosts": ["api.example.com"],
    },
)
async def create_connector(call: Call, body: CreateConnector) -> ConnectorRow:
    """Store a connector.

    The secrets of `data` are encrypted before they are stored; they never appear in an answer, event, log or audit
    record.
    """
    return await call.parts.data.connectors.create(
        call.principal,
        NewConnector(
            type=body.type,
            name=body.name,
            description=body.description,
            data=body.data,
            allowed_hosts=body.allowed_hosts,
            moves_money=body.moves_money,
        ),
    )


@noun.get(
    "/v1/connectors/{id}",
    permission="connector:read",
    answers=ConnectorAnswer,
    refusals=[Code.CONNECTOR_UNKNOWN],
)
async def get_connector(call: Call, id: str) -> ConnectorRow:
    """Get one connector."""
    return await call.parts.data.connectors.get(call.principal, id)


@noun.put(
    "/v1/connectors/{id}",
    permission="connector:write",
    reads="connector:read",
    answers=ConnectorAnswer,
    refusals=[Code.CONNECTOR_UNKNOWN, Code.VERSION_MOVED, Code.VAULT_LOCKED, Code.SECRET_UNREADABLE],
    example={"allowedHosts": ["api.example.com"], "data": {"token": "a-new-token"}, "expectedVersion": 1},
)
async def update_connector(call: Call, id: str, body: UpdateConnector) -> ConnectorRow:
    """Change a connector; running workflows use the change from their next node on.

    A change that sends the credential to a new place (another host, another token endpoint) requires the secrets again.
    """
    change = ConnectorChange(
        name=body.name,
        description=body.description,
        data=body.data,
        allowed_hosts=body.allowed_hosts,
        moves_money=body.moves_money,
        expected_version=body.expected_version,
    )
    return await call.parts.data.connectors.update(call.principal, id, change)


@noun.delete(
    "/v1/connectors/{id}",
    permission="connector:write",
    reads="connector:read",
    answers=ConnectorAnswer,
    refusals=[Code.CONNECTOR_UNKNOWN, Code.CONNECTOR_IN_USE],
)
async def delete_connector(
    call: Call,
    id: str,
    force: Annotated[bool, Field(description="Delete it even if workflows use it; their nodes will fail.")] = False,
) -> ConnectorRow:
    """Delete a connector and its secrets."""
    return await call.parts.data.connectors.delete(call.principal, id, force=force)


@noun.post(
    "/v1/connectors/{id}/test",
    permission="connector:write",
    answers=ConnectorTestAnswer,
    refusals=[Code.CONNECTOR_UNKNOWN, Code.VAULT_LOCKED, Code.SECRET_UNREADABLE],
    example={"url": "https://api.example.com/me"},
)
async def try_connector(call: Call, id: str, body: ConnectorTest | None = None) -> ConnectorTestResult:
    """Test a connector: send a GET with its credential, or request a token.

    The answer is 200 even if the credential was rejected; see `ok`.
    """
    return await call.parts.data.connectors.test(call.principal, id, body.url if body else None)
