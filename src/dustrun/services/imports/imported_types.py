"""Node types of imported documents, as validation, the compiler and the engine need them: each node with the operation
that it is pinned to."""

from __future__ import annotations

import difflib
import functools
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from dustrun.actions.http.imported_operation import Input
from dustrun.catalog import IMPORTED
from dustrun.core.json_schema.check import MOST_STEPS, PayloadCheck, SchemaProblem
from dustrun.core.openapi.operation import ImportedOperation, read_operation
from dustrun.core.workflow.definition import Definition, Node
from dustrun.core.workflow.specs import NodeSpec, OrgSpecs, Specs, api_of
from dustrun.errors import Code, Invalid, Problem
from dustrun.storage.data import catalog as rows
from dustrun.storage.db.statement import Tx

_STEPS: Final = 4_000
"""Of a check of arguments on the event loop, about 20 ms; a longer one is made beside it, before anything is sent."""
NAMES_ONE: Final = re.compile(r'"type"\s*:\s*"[a-z][a-z0-9-]*\.')
"""Found in the text of each definition with a node of an imported type, and in few others."""
_KINDS: Final = {"missing": "missing", "unknown": "extra_forbidden", "invalid": "operation_argument"}
_MOST_COMPARED: Final = 20
"""Unknown types of one definition for which similar ones are looked for."""
_MOST_CHARS: Final = 160
_PINNED: Final = ("operation", "server", "effect")
Payload = Mapping[str, Any]


class CheckedOperation:
    """An operation with the check of its arguments."""

    def __init__(self, operation: ImportedOperation) -> None:
        self.operation = operation

    @functools.cached_property
    def _check(self) -> PayloadCheck:
        return PayloadCheck(dict(self.operation.args))

    def find_problems(self, args: dict[str, Any]) -> list[SchemaProblem] | None:
        """The problems of arguments; None if it takes too long to find them on the event loop."""
        return self._check.find(args, _STEPS)

    def check_args(self, args: dict[str, Any]) -> None:
        """Raises `Invalid` if the arguments do not satisfy the operation's schema."""
        found = self._check.find(args, MOST_STEPS)
        if found is None:
            found = [SchemaProblem("invalid", (), "Validating it against the operation's schema takes too long.")]
        if found:
            details = [
                Problem("payload.args" + "".join(f".{one}" for one in each.path), each.message) for each in found
            ]
            raise Invalid(
                f"The arguments do not fit {self.operation.type}.", code=Code.ACTION_INPUT_INVALID, details=details
            )


class OperationPayload:
    """Validates payloads of one imported type as a model does: nodes of one definition may be pinned to different
    versions of it. A model of its own for each operation would take forty times as long."""

    model_fields = Input.model_fields

    def __init__(self, kind: str, by_pin: Mapping[str, CheckedOperation]) -> None:
        self._kind = kind
        self._by_pin = by_pin

    def model_validate(self, value: Any) -> Input:
        """The payload with its operation; raises `ValidationError`."""
        given = Input.model_validate(value)
        known = self._by_pin.get(given.operation or "")
        if known is None:
            raise self._error([_at("operation", given.operation, self._why_unknown(given.operation))])
        problems = [
            _at(name, got, f'It must be "{wanted}", as in the document; leave it out to have it filled in')
            for name, got, wanted in (
                ("server", given.server, known.operation.server),
                ("effect", given.effect, known.operation.effect),
            )
            if got != wanted
        ]
        found = known.find_problems(given.args)
        problems += [_of_argument(one, given.args) for one in found or ()]
        if problems:
            raise self._error(problems)
        return given.as_known(known, is_checked=found is not None)

    def _why_unknown(self, pin: str | None) -> str:
        if pin is None:
            return "It is filled in when the workflow is saved: save it again"
        return (
            f'"{self._kind}" was not imported in this form; leave `operation`, `server` and `effect` out for the newest'
        )

    def _error(self, problems: list[InitErrorDetails]) -> ValidationError:
        return ValidationError.from_exception_data(self._kind, problems)


def _at(name: str, value: Any, message: str) -> InitErrorDetails:
    return InitErrorDetails(
        type=PydanticCustomError("operation", "{said}", {"said": message}), loc=(name,), input=value
    )


def _of_argument(one: SchemaProblem, args: dict[str, Any]) -> InitErrorDetails:
    said = PydanticCustomError(_KINDS[one.kind], "{said}", {"said": one.message})
    return InitErrorDetails(type=said, loc=("args", *one.path), input=args)


def _nodes_of(document: Any) -> Iterator[tuple[str, str, Payload]]:
    """The nodes of imported types of a definition or of its document: id, type and payload."""
    nodes: Any = document.nodes if isinstance(document, Definition) else document.get("nodes")
    for node_id, node in nodes.items() if isinstance(nodes, Mapping) else ():
        if isinstance(node, Mapping):
            kind, payload = node.get("type"), node.get("payload", {})
        elif isinstance(node, Node):
            kind, payload = node.type, node.payload
        else:
            continue
        if isinstance(kind, str) and api_of(kind) is not None and isinstance(payload, Mapping):
            yield str(node_id), kind, payload


def has_imported(definition: Definition) -> bool:
    """Whether a node has an imported type."""
    return any(True for _ in _nodes_of(definition))


def read_content(content: bytes) -> ImportedOperation:
    """The operation that is stored."""
    return read_operation(zlib.decompress(content))


def specs_with(tx: Tx, org_id: str, document: Any, specs: Specs) -> Specs:
    """The node types, with those of imported documents that a definition has: what is not among them does not exist in
    the organisation."""
    found: dict[str, dict[str, CheckedOperation]] = {}
    similar: dict[str, tuple[str, ...]] = {}
    for _, kind, payload in _nodes_of(document):
        pin = payload.get("operation")
        row = rows.find_operation(tx, org_id, kind, pin) if isinstance(pin, str) else None
        if row is not None:
            found.setdefault(kind, {})[row[0]] = CheckedOperation(read_content(row[1]))
        elif kind in found:
            continue
        elif rows.find_operation(tx, org_id, kind, None) is not None:
            found[kind] = {}
        elif kind not in similar and len(similar) < _MOST_COMPARED:
            similar[kind] = similar_types(tx, org_id, kind)
    generic = specs.get(IMPORTED + ".")
    assert generic is not None
    return OrgSpecs({**specs, **{kind: _spec(generic, kind, by_pin) for kind, by_pin in found.items()}}, similar)


def similar_types(tx: Tx, org_id: str, kind: str) -> tuple[str, ...]:
    """The imported types that may be meant by one that does not exist. Only a few hundred are compared with it, which
    an index finds: to compare a hundred thousand takes more than a second."""
    api, _, operation = kind[:_MOST_CHARS].partition(".")
    if rows.find(tx, org_id, api) is None:
        api = next(iter(difflib.get_close_matches(api, rows.names_near(tx, org_id, api), n=1)), "")
    row = rows.find(tx, org_id, api) if api else None
    if row is None:
        return ()
    near = [one.partition(".")[2] for one in rows.types_near(tx, row, f"{api}.{operation}")]
    return tuple(f"{api}.{one}" for one in difflib.get_close_matches(operation, near, n=2))


def _spec(generic: NodeSpec, kind: str, by_pin: Mapping[str, CheckedOperation]) -> NodeSpec:
    payload: Any = OperationPayload(kind, by_pin)
    return replace(generic, type=kind, payload=payload)


def pinned_payloads(tx: Tx, org_id: str, document: Any) -> dict[str, dict[str, Any]]:
    """By node, its payload with what `operation`, `server` and `effect` lack; nodes that lack nothing are not in it."""
    found: dict[str, dict[str, Any]] = {}
    for node_id, kind, payload in _nodes_of(document):
        if all(payload.get(name) is not None for name in _PINNED):
            continue
        pin = payload.get("operation")
        row = rows.find_operation(tx, org_id, kind, pin if isinstance(pin, str) else None)
        if row is not None:
            operation = read_content(row[1])
            known = {"operation": row[0], "server": operation.server, "effect": operation.effect}
            given = {name: value for name, value in payload.items() if value is not None or name not in known}
            found[node_id] = {**known, **given}
    return found


def pinned(tx: Tx, org_id: str, definition: Definition) -> Definition:
    """The definition with its nodes pinned to the operations in use, where they are not pinned yet."""
    payloads = pinned_payloads(tx, org_id, definition)
    if not payloads:
        return definition
    nodes = {
        node_id: node.model_copy(update={"payload": payloads[node_id]}) if node_id in payloads else node
        for node_id, node in definition.nodes.items()
    }
    return definition.model_copy(update={"nodes": nodes})


def pinned_document(tx: Tx, org_id: str, document: Any) -> Any:
    """The same of a document that is not read yet."""
    payloads = pinned_payloads(tx, org_id, document)
    nodes = (
        {
            node_id: {**node, "payload": payloads[node_id]} if node_id in payloads else node
            for node_id, node in document["nodes"].items()
        }
        if payloads
        else {}
    )
    return {**document, "nodes": nodes} if payloads else document


def pins_in(nodes: Iterable[Mapping[str, Any]], api: str) -> Iterator[tuple[str, str]]:
    """The operations of an API that nodes of a stored definition are pinned to: type and pin."""
    for node in nodes:
        if api_of(str(node.get("type"))) == api:
            yield str(node["type"]), str((node.get("payload") or {}).get("operation"))
