"""`/v1/catalog/services`: services whose documents Dustrun knows, to be imported by their names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from dustrun.errors import Code
from dustrun.operations.declaration.answers import MADE, Answer, From, PageAnswer
from dustrun.operations.declaration.fields import Paged
from dustrun.operations.declaration.operation import Noun
from dustrun.operations.declaration.parts import Call
from dustrun.services.access.paging import Page
from dustrun.services.imports.document_imports import FoundService

noun = Noun("Catalogue")


class ServiceItem(Answer):
    """A known service, as lists show it."""

    name: Annotated[str, From("service.name")] = Field(description="Value of `service` of an import.")
    title: Annotated[str, From("service.title")]
    summary: Annotated[str, From("service.summary")]
    website: Annotated[str, From("service.website")]
    connectors: Annotated[list[str], From("service.connectors"), MADE] = Field(
        description="Types of connectors that hold its credential, the best first."
    )
    imports: list[str] = Field(description="Names of the imports of it in the organisation.")


class ServiceOperationAnswer(Answer):
    """An operation that people automate."""

    name: str = Field(description="A node's type is the import's name, a dot, and this.")
    summary: str


class TrialCallAnswer(Answer):
    """A read that shows whether a credential works."""

    operation: str
    args: dict[str, Any]


class ConsentPresetAnswer(Answer):
    """Data of a connector of type `oauth2-authorization-code`, besides client and scope."""

    authorize_url: str
    token_url: str
    client_auth: str
    authorize_parameters: dict[str, str]
    docs: str = Field(description="The service's page about it.")


def _consent(found: FoundService) -> Mapping[str, Any] | None:
    preset = found.service.consent
    if preset is None:
        return None
    return {
        "authorizeUrl": preset.authorize_url,
        "tokenUrl": preset.token_url,
        "clientAuth": preset.client_auth,
        "authorizeParameters": dict(preset.authorize_parameters),
        "docs": preset.docs,
    }


def _operations(found: FoundService) -> list[Mapping[str, Any]]:
    return [{"name": name, "summary": summary} for name, summary in found.service.operations.items()]


def _test(found: FoundService) -> Mapping[str, Any] | None:
    test = found.service.test
    return None if test is None else {"operation": test.operation, "args": dict(test.args)}


class ServiceAnswer(ServiceItem):
    """A known service."""

    document: Annotated[str, From("service.document")] = Field(description="The address of its OpenAPI document.")
    server: Annotated[str | None, From("service.server")] = Field(
        description="Where it is served, if the document does not say so."
    )
    needs_server: Annotated[str | None, From("service.needs_server")] = Field(
        description="If each customer has another address: what to give as `server`."
    )
    credential: Annotated[str, From("service.credential")] = Field(description="Where its credential is found.")
    scopes: Annotated[list[str], From("service.scopes"), MADE] = Field(description="What the credential must permit.")
    consent: Annotated[ConsentPresetAnswer | None, From(_consent), MADE] = Field(
        description="Where people consent, for a connector of type `oauth2-authorization-code`; null: not known."
    )
    operations: Annotated[list[ServiceOperationAnswer], From(_operations), MADE] = Field(
        description="What people automate with it; an import has all other operations too."
    )
    test: Annotated[TrialCallAnswer | None, From(_test), MADE] = Field(
        description="A read that shows whether a credential works."
    )


@noun.get("/v1/catalog/services", permission="workflow:read", answers=PageAnswer[ServiceItem])
async def list_services(
    call: Call,
    paging: Paged,
    q: Annotated[str, Field(max_length=256, description="Words with which words of it begin; empty: all.")] = "",
) -> Page[FoundService]:
    """List the services whose OpenAPI documents Dustrun knows, by title."""
    return await call.parts.data.imports.list_services(call.principal, q, paging)


@noun.get(
    "/v1/catalog/services/{name}",
    permission="workflow:read",
    answers=ServiceAnswer,
    refusals=[Code.SERVICE_UNKNOWN],
)
async def get_service(
    call: Call, name: Annotated[str, Field(description="Name of the service.", max_length=60, examples=["github"])]
) -> FoundService:
    """Get one known service: its credential, and the operations that people automate.

    `POST /v1/catalog/imports` with its name as `service` imports its document.
    """
    return await call.parts.data.imports.get_service(call.principal, name)
