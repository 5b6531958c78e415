"""`/v1/actions`, `/v1/triggers`, `/v1/connector-types`: the public catalogue of node and connector types."""

from __future__ import annotations

import functools
import hashlib
import struct
import zlib
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import ConfigDict, Field
from starlette.datastructures import Headers
from starlette.responses import Response

from dustrun.api.envelope import HEADER, is_exact, success_body
from dustrun.errors import Code
from dustrun.operations.declaration.answers import Answer
from dustrun.operations.declaration.operation import PUBLIC, Noun
from dustrun.operations.declaration.parts import Call
from dustrun.records import dataclass
from dustrun.sdk.threads import run_beside

noun = Noun("Catalogue")

_HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff"
_STORED = b"\x01"  # the last block, as it is
_PLACE = "req_place"


@dataclass(frozen=True, slots=True)
class CompressedAnswer:
    """The beginning of an answer, plain and compressed, and what tells whether a caller has it already."""

    begin: bytes
    end: tuple[bytes, bytes]
    """The bytes around the request id."""
    zipped: bytes
    crc: int
    etag: str

    def answer(self, request_id: str, asked: Headers) -> Response:
        """The answer to one request; 304 without a body if the caller has it."""
        headers = {"ETag": self.etag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding, Dustrun-Exact-Numbers"}
        if self.etag in [one.strip() for one in asked.get("if-none-match", "").split(",")]:
            return Response(status_code=304, headers=headers)
        end = request_id.encode().join(self.end)
        body = self.begin + end
        if "gzip" in asked.get("accept-encoding", ""):
            headers["Content-Encoding"] = "gzip"
            body = self._zipped_with(end)
        return Response(body, media_type="application/json", headers=headers)

    def _zipped_with(self, end: bytes) -> bytes:
        block = _STORED + struct.pack("<HH", len(end), len(end) ^ 0xFFFF) + end
        size = (len(self.begin) + len(end)) & 0xFFFFFFFF
        return _HEAD + self.zipped + block + struct.pack("<II", zlib.crc32(end, self.crc), size)


def prepare(body_of: Callable[[str], bytes]) -> CompressedAnswer:
    """Prepares an answer; `body_of` encodes it with a request id. Takes milliseconds: not for the event loop."""
    begin, _, end = body_of(_PLACE).rpartition(_PLACE.encode())
    begin, mark, middle = begin.rpartition(b',"requestId":')
    compressor = zlib.compressobj(9, wbits=-15)
    zipped = compressor.compress(begin) + compressor.flush(zlib.Z_FULL_FLUSH)
    etag = f'W/"{hashlib.sha256(begin).hexdigest()[:32]}"'
    return CompressedAnswer(begin, (mark + middle, end), zipped, zlib.crc32(begin), etag)


Tags = Annotated[list[str] | None, Field(description="Only those with all of these tags; repeated or comma-separated.")]
Search = Annotated[
    str | None, Field(max_length=256, description="Words to search for in type, summary, description and tags.")
]
Summary = Annotated[bool, Field(description="Leave out schemas and examples.")]
Type = Annotated[str, Field(description="The node type.", examples=["http-request"])]


class PackageAnswer(Answer):
    """An installed package."""

    name: str
    version: str


class NodeTypeAnswer(Answer):
    """One node type; with `summary=true`, without schemas and examples."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="Value of a node's `type`.")
    kind: str = Field(description="`action` or `control`; for a trigger, how it fires.")
    name: str = Field(description="Display name.")
    summary: str
    tags: list[str]
    package: PackageAnswer | None = Field(
        description="The installed package that it comes from; null for Dustrun's own and for files in `actions_dir`."
    )
    description: str | None = None
    payload_schema: dict[str, Any] | None = Field(None, description="JSON Schema of a node's `payload`.")
    result_schema: dict[str, Any] | None = Field(None, description="JSON Schema of a node's result.")
    example_input: Any = None
    example_output: Any = None


class TriggerAnswer(NodeTypeAnswer):
    """A trigger."""

    connectors: list[str] = Field(
        description="Connector types that its node may name; `http` means every type that authenticates HTTP requests."
    )
    connector_required: bool = Field(description="Whether it can start nothing without one; a simulation needs none.")


class ActionAnswer(NodeTypeAnswer):
    """An action or control node."""

    category: str = Field(description="Category of the action.")
    effect: str = Field(description="`pure`, `read`, `write`, `spend` or `control`.")
    idempotent: bool = Field(
        description="Whether executing it twice with the same idempotency key has the effect of executing it once."
    )
    funds_movement: list[Any] = Field(description="What it moves, and which fields hold the amounts.")
    requires_gas: bool
    connectors: list[str] = Field(
        description="Connector types that a node may use; `http` means every type that authenticates HTTP requests."
    )
    connector_required: bool = Field(description="Whether a node must name one.")
    branches: list[str] = Field(
        description="The branches that a node's children may name, beside `error` with `onError: branch`."
    )
    branches_in: str | None = Field(description="Field of `payload` that lists more branches, each by its `name`.")


class ConnectorTypeAnswer(Answer):
    """One connector type: the schema of its `data`, and how it is used."""

    type: str = Field(description="Value of a connector's `type`.")
    name: str = Field(description="Display name.")
    summary: str
    description: str
    tags: list[str]
    attaches_to_http: bool = Field(description="Whether its credential is added to a node's HTTP requests.")
    moves_money: bool = Field(description="Whether its credential can move money. A connector may override this.")
    secret_fields: list[str] = Field(description="Fields of `data` that are encrypted and never returned.")
    data_schema: dict[str, Any] = Field(description="JSON Schema of a connector's `data`.")
    example_data: dict[str, Any]
    package: PackageAnswer | None = Field(
        description="The installed package that it comes from; null for Dustrun's own and for files in `actions_dir`."
    )


_DETAILS = frozenset({"description", "inputSchema", "outputSchema", "exampleInput", "exampleOutput"})
# The catalogue's words for a schema are those of a program; on the wire a node has a payload and a result.
_WIRE_NAMES = {"inputSchema": "payloadSchema", "outputSchema": "resultSchema", "family": "category"}


# Words with capitals of their own; the web app writes the names of fields likewise.
_CAPITALS = "abi api csv erc20 erc721 eth evm html http llm mcp rpc rss v2 v3 xml"
_SPELT = {word: word.upper() for word in _CAPITALS.split()} | {"uniswap": "Uniswap"}


def _name_of(kind: str) -> str:
    """`http-request` as a person reads it: HTTP request."""
    first, *rest = kind.split("-")
    return " ".join([_SPELT.get(first, first.capitalize()), *(_SPELT.get(word, word) for word in rest)])


def _named(shown: dict[str, Any]) -> dict[str, Any]:
    return {"name": _name_of(shown["type"]), **shown}


def _named_all(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [_named(shown) for shown in found]


def _shape(shown: dict[str, Any]) -> dict[str, Any]:
    return {"name": _name_of(shown["type"])} | {_WIRE_NAMES.get(key, key): value for key, value in shown.items()}


def _shapes(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [_shape(shown) for shown in found]


def _matching(found: list[dict[str, Any]], tags: list[str] | None, q: str | None) -> list[dict[str, Any]]:
    wanted = {tag.strip() for value in tags or () for tag in value.split(",") if tag.strip()}
    words = (q or "").casefold().split()
    return [shown for shown in found if wanted <= set(shown["tags"]) and _mentions(shown, words)]


def _mentions(shown: dict[str, Any], words: list[str]) -> bool:
    text = " ".join([shown["type"], shown["summary"], shown.get("description") or "", *shown["tags"]]).casefold()
    return all(word in text for word in words)


def _without_details(shown: dict[str, Any]) -> dict[str, Any]:
    return {key: shown[key] for key in shown if key not in _DETAILS}


_UNCHANGED = "The caller has the list already, by its ETag in `If-None-Match`."


async def _every(call: Call, name: str) -> list[dict[str, Any]]:
    """A list of the catalogue; a request that comes before the start has built it waits beside the loop."""
    await call.parts.await_catalogue()
    found: list[dict[str, Any]] = getattr(call.parts, name)
    return found


async def _listed(call: Call, name: str, tags: list[str] | None, q: str | None, summary: bool) -> Any:
    """The types asked for. The whole list, which editors read at every start, is prepared once."""
    asked, every = Headers(raw=list(call.headers)), await _every(call, name)
    if tags or q or HEADER in asked:
        found = _matching(every, tags, q)
        return [_without_details(shown) for shown in found] if summary else found
    key = (name, summary, is_exact())
    if key not in call.parts.prepared:
        shown = _shapes([_without_details(one) for one in every] if summary else every)
        call.parts.prepared[key] = await run_beside(prepare, functools.partial(success_body, shown))
    return call.parts.prepared[key].answer(call.request_id, asked)


@noun.get("/v1/actions", permission=PUBLIC, answers=list[ActionAnswer], shape=_shapes, unchanged=_UNCHANGED)
async def list_actions(call: Call, tags: Tags = None, q: Search = None, summary: Summary = False) -> Any:
    """List the actions and control nodes."""
    return await _listed(call, "public_actions", tags, q, summary)


@noun.get("/v1/actions/{type}", permission=PUBLIC, answers=ActionAnswer, shape=_shape, refusals=[Code.TYPE_UNKNOWN])
async def get_action(call: Call, type: Type, summary: Summary = False) -> dict[str, Any]:
    """Get one action or control node."""
    return call.parts.catalog.public_action(type, summary=summary)


@noun.get("/v1/triggers", permission=PUBLIC, answers=list[TriggerAnswer], shape=_shapes, unchanged=_UNCHANGED)
async def list_triggers(call: Call, tags: Tags = None, q: Search = None, summary: Summary = False) -> Any:
    """List the triggers."""
    return await _listed(call, "public_triggers", tags, q, summary)


@noun.get("/v1/triggers/{type}", permission=PUBLIC, answers=TriggerAnswer, shape=_shape, refusals=[Code.TYPE_UNKNOWN])
async def get_trigger(call: Call, type: Type, summary: Summary = False) -> dict[str, Any]:
    """Get one trigger."""
    return call.parts.catalog.public_trigger(type, summary=summary)


@noun.get("/v1/connector-types", permission=PUBLIC, answers=list[ConnectorTypeAnswer], shape=_named_all)
async def list_connector_types(call: Call, tags: Tags = None, q: Search = None) -> list[dict[str, Any]]:
    """List the connector types."""
    return _matching(await _every(call, "public_connectors"), tags, q)


@noun.get(
    "/v1/connector-types/{type}",
    permission=PUBLIC,
    answers=ConnectorTypeAnswer,
    shape=_named,
    refusals=[Code.TYPE_UNKNOWN],
)
async def get_connector_type(
    call: Call, type: Annotated[str, Field(description="The connector type.", examples=["http-bearer"])]
) -> dict[str, Any]:
    """Get one connector type."""
    return call.parts.catalog.public_connector(type)
