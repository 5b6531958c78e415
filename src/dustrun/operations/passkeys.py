"""`/v1/passkeys`: the passkeys of the caller's person; with one they sign in at `/v1/session/passkey`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from dustrun.core.values.fields import Fields
from dustrun.errors import Code
from dustrun.operations.declaration.answers import Answer, PageAnswer, Time
from dustrun.operations.declaration.fields import Name, Paged
from dustrun.operations.declaration.operation import ANY_KEY, Noun
from dustrun.operations.declaration.parts import Call
from dustrun.services.access.paging import Page, page_of
from dustrun.services.access.passkeys.passkeys import PasskeyRequest
from dustrun.storage.access.passkeys import PasskeyRow

noun = Noun("Sessions")

Credential = Annotated[
    dict[str, Any], Field(description="The browser's `PublicKeyCredential`, as its `toJSON()` writes it.")
]


class AddPasskey(Fields):
    """A passkey that the browser has made."""

    name: Name = Field(description="What the person calls it.", examples=["Laptop"])
    credential: Credential


class RenamePasskey(Fields):
    """Another name of a passkey."""

    name: Name = Field(description="What the person calls it.", examples=["Laptop"])


class PasskeyAnswer(Answer):
    """A passkey."""

    id: str
    name: str
    created_at: Time
    last_used_at: Time | None = Field(description="When somebody last signed in with it.")


class PasskeyOptionsAnswer(Answer):
    """The options of the request to the browser."""

    public_key: dict[str, Any] = Field(
        description="The `publicKey` of `navigator.credentials.create()` or `get()`, as JSON with binary values in "
        "base64url."
    )


@noun.get("/v1/passkeys", permission=ANY_KEY, answers=PageAnswer[PasskeyAnswer])
async def list_passkeys(call: Call, paging: Paged) -> Page[PasskeyRow]:
    """List the passkeys of the caller's person, newest first."""
    found = await call.parts.access.passkeys.list_own(call.principal)
    return page_of(found[paging.offset : paging.offset + paging.peek], paging)


@noun.post("/v1/passkeys/begin", permission=ANY_KEY, answers=PasskeyOptionsAnswer, refusals=[Code.BEARER_NEEDED])
async def begin_passkey(call: Call) -> PasskeyRequest:
    """Begin to add a passkey: what to ask the browser for, which has five minutes to answer.

    The caller must be a person, with a key of theirs or just signed in: with a passkey, if they have one.
    """
    return await call.parts.access.passkeys.begin(call.principal)


@noun.post(
    "/v1/passkeys",
    permission=ANY_KEY,
    answers=PasskeyAnswer,
    refusals=[Code.PASSKEY_REFUSED, Code.PASSKEY_TAKEN, Code.BEARER_NEEDED],
    example={"name": "Laptop", "credential": {"id": "4fQ…", "rawId": "4fQ…", "type": "public-key", "response": {}}},
)
async def add_passkey(call: Call, body: AddPasskey) -> PasskeyRow:
    """Add the passkey that the browser has made.

    From then on the person must have signed in with a passkey to count as just signed in, and to approve what their own
    runs ask where one person may.
    """
    return await call.parts.access.passkeys.add(call.principal, body.name, body.credential)


@noun.patch(
    "/v1/passkeys/{id}",
    permission=ANY_KEY,
    answers=PasskeyAnswer,
    refusals=[Code.PASSKEY_UNKNOWN],
    example={"name": "Old laptop"},
)
async def rename_passkey(call: Call, id: str, body: RenamePasskey) -> PasskeyRow:
    """Give one of the caller's passkeys another name."""
    return await call.parts.access.passkeys.rename(call.principal, id, body.name)


@noun.delete(
    "/v1/passkeys/{id}",
    permission=ANY_KEY,
    answers=PasskeyAnswer,
    refusals=[Code.PASSKEY_UNKNOWN, Code.BEARER_NEEDED],
)
async def remove_passkey(call: Call, id: str) -> PasskeyRow:
    """Remove one of the caller's passkeys; nobody signs in with it any more."""
    return await call.parts.access.passkeys.remove(call.principal, id)
