"""Reads all operations of a document, and says of each that is left out why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import field, replace
from typing import Any, Final

from dustrun.core.openapi.bodies import Unsupported, read_answer, read_body
from dustrun.core.openapi.document import Broken, Document, parse, refuse
from dustrun.core.openapi.naming import API, MOST_API, api_name, operation_name
from dustrun.core.openapi.operation import METHODS, READS, ImportedOperation, Parameter
from dustrun.core.openapi.parameters import ParameterSchema, read_parameters
from dustrun.core.openapi.schemas import Json, Schemas
from dustrun.core.openapi.servers import NoServer, ServerChoice, server_of
from dustrun.core.text.wording import without_unseen
from dustrun.records import dataclass

MOST_OPERATIONS: Final = 50_000
_METHODS: Final = frozenset(
    {"get", "put", "post", "delete", "options", "head", "patch", "trace", "query", "connect"}
)  # other keys of a path are no operations
_ARGS_BYTES: Final = 32_000
_RESULT_BYTES: Final = 8_000
_MOST_TEXT: Final = 2_000
_MOST_TOLD: Final = 200
BODY: Final = "body"


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An operation that cannot be imported: its method and path, the kind of reason, and the reason."""

    operation: str
    reason: str
    message: str


@dataclass(slots=True)
class DocumentContent:
    """The content of a document. `left_out` holds the first that are, `counts` how many by kind of reason. `renamed`:
    operations that share their `operationId` and so have the names of their method and path."""

    name: str
    title: str
    version: str
    format: str
    operations: list[ImportedOperation] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    renamed: list[str] = field(default_factory=list)

    def leave_out(self, operation: str, reason: str, message: str) -> None:
        """Notes one that is left out."""
        self.counts[reason] += 1
        if len(self.left_out) < _MOST_TOLD:
            self.left_out.append(LeftOut(operation, reason, message))


def read(content: bytes, *, name: str | None = None, choice: ServerChoice | None = None) -> DocumentContent:
    """Reads a document; raises `Invalid` if it is none, or none of its operations can be used. It may take many
    seconds: never on the event loop."""
    document = Document(parse(content))
    title = str(document.info.get("title") or "")[:200]
    api = name if name is not None else api_name(title)
    if len(api) > MOST_API or API.fullmatch(api) is None:
        message = (
            f'The name of the API, "{api[:60]}", must have at most {MOST_API} lower-case letters, digits and single '
            "hyphens, and begin with a letter. Give `name`."
        )
        raise refuse(message, "name")
    reading = DocumentContent(api, title, str(document.info.get("version") or "")[:60], document.version)
    _Reader(document, choice or ServerChoice(), reading).read()
    if not reading.operations:
        told = "; ".join(f"{one.operation}: {one.message}" for one in reading.left_out[:3])
        raise refuse(f"None of its operations can be imported{f' ({told})' if told else ': it has none'}.")
    return reading


class _Reader:
    def __init__(self, document: Document, choice: ServerChoice, reading: DocumentContent) -> None:
        self._document, self._choice, self._reading = document, choice, reading
        self._asked = Schemas(document, of_answers=False)
        self._answered = Schemas(document, of_answers=True)

    def read(self) -> None:
        """Fills the reading."""
        found = list(self._listed())
        if len(found) > MOST_OPERATIONS:
            raise refuse(f"The document has {len(found):,} operations; at most {MOST_OPERATIONS:,} can be imported.")
        named = _names(found, self._reading)
        taken: set[str] = set()
        for method, path, item, operation in found:
            place = f"{method.upper()} {path}"[:300]
            try:
                kind = f"{self._reading.name}.{named[method, path]}"
                if kind in taken:
                    raise Unsupported("name", f'another operation has the name "{kind}", too')
                one = self._operation(kind, method.upper(), path, item, operation)
            except NoServer as error:
                self._reading.leave_out(place, "server", str(error))
            except Unsupported as error:
                self._reading.leave_out(place, error.reason, str(error))
            except Broken as error:
                self._reading.leave_out(place, "broken", str(error))
            else:
                taken.add(kind)
                self._reading.operations.append(one)

    def _listed(self) -> Iterator[tuple[str, str, Json, Json]]:
        paths = self._document.root.get("paths")
        for path, value in paths.items() if isinstance(paths, dict) else ():
            if str(path).startswith("x-"):
                continue  # an extension, no path
            try:
                item = self._document.mapping(value)
            except Broken as error:
                self._reading.leave_out(str(path)[:300], "broken", str(error))
                continue
            for method, operation in item.items():
                if str(method).lower() in _METHODS and isinstance(operation, dict):
                    yield str(method).lower(), str(path), item, operation

    def _operation(self, kind: str, method: str, path: str, item: Json, operation: Json) -> ImportedOperation:
        if method not in METHODS:
            raise Unsupported("method", f"requests with {method} cannot be sent")
        server = server_of(self._document, self._choice, operation, item)
        given, loose = read_parameters(self._document, path, item, operation)
        body, schema, is_required = read_body(self._document, operation, loose)
        given = list(_apart(given, has_body=body is not None))
        accept, answer = read_answer(self._document, operation)
        text = str(operation.get("description") or "")
        return ImportedOperation(
            type=kind,
            method=method,
            server=server,
            path=path,
            effect="read" if method in READS else "write",
            summary=_line(operation.get("summary")) or _line(text) or f"{method} {path}"[:200],
            description=without_unseen(text)[:_MOST_TEXT],
            tags=tuple(_line(one)[:60] for one in operation.get("tags", ()) if isinstance(one, str))[:10]
            if isinstance(operation.get("tags"), list)
            else (),
            security=self._security(operation),
            accept=accept,
            parameters=tuple(one.parameter for one in given),
            body=body,
            args=self._args(given, schema if body is not None else None, is_required=is_required),
            result=self._answered.bundle(answer, _RESULT_BYTES) if answer is not None else None,
        )

    def _args(self, given: list[ParameterSchema], body: Any, *, is_required: bool) -> Json:
        """The schema of the arguments: one field for each parameter, and `body`."""
        fields = {one.parameter.field: one.schema for one in given}
        required = [one.parameter.field for one in given if one.is_required]
        if body is not None:
            fields[BODY] = body
            required += [BODY] if is_required else []
        schema = self._asked.bundle({"type": "object", "properties": fields, "required": required}, _ARGS_BYTES)
        missing = {name: True for name in fields if name not in schema.get("properties", {})}
        schema["properties"] = {**schema.get("properties", {}), **missing}
        return {**schema, "type": "object", "required": required, "additionalProperties": False}

    def _security(self, operation: Json) -> tuple[str, ...]:
        """The kinds of credentials, by the type of connector that holds one."""
        asked = operation.get("security", self._document.root.get("security"))
        if self._document.is_swagger:
            schemes = self._document.root.get("securityDefinitions")
        else:
            components = self._document.root.get("components")
            schemes = components.get("securitySchemes") if isinstance(components, dict) else None
        if not isinstance(asked, list) or not isinstance(schemes, dict):
            return ()
        names = [name for one in asked if isinstance(one, dict) for name in one]
        return tuple(dict.fromkeys(_kind_of(schemes.get(name)) for name in names))[:8]


def _kind_of(scheme: Any) -> str:
    if not isinstance(scheme, dict):
        return "http"
    kind, how = str(scheme.get("type")).lower(), str(scheme.get("scheme")).lower()
    if kind == "basic" or (kind == "http" and how == "basic"):
        return "http-basic"
    if kind == "apikey":
        return "http-query" if scheme.get("in") == "query" else "http-header"
    return "http-bearer" if kind in ("http", "oauth2", "openidconnect") else "http"


def _names(found: list[tuple[str, str, Json, Json]], reading: DocumentContent) -> Mapping[tuple[str, str], str]:
    """The name of each operation: its `operationId`, or its method and path if it has none or shares it."""
    named = {(method, path): _own_name(operation) for method, path, _, operation in found}
    shared = {name for name, count in Counter(named.values()).items() if name and count > 1}
    names = {}
    for (method, path), name in named.items():
        if name in shared:
            reading.renamed.append(f"{method.upper()} {path}"[:300])
        names[method, path] = name if name and name not in shared else operation_name(f"{method} {path}")
    return names


def _own_name(operation: Json) -> str:
    own = operation.get("operationId")
    return operation_name(own) if isinstance(own, str) and any(char.isalnum() for char in own) else ""


def _apart(given: list[ParameterSchema], *, has_body: bool) -> Iterator[ParameterSchema]:
    """The parameters with different fields: of two of one name, the later has its place in its field."""
    taken = {BODY} if has_body else set()
    for one in given:
        name, number = one.parameter.name, 1
        while name in taken:
            name = f"{one.parameter.name}_{one.parameter.place}{number if number > 1 else ''}"
            number += 1
        taken.add(name)
        parameter: Parameter = replace(one.parameter, field=name)
        yield replace(one, parameter=parameter)


def _line(text: Any) -> str:
    """The first line of a text."""
    plain = next((line.strip() for line in without_unseen(str(text)).splitlines() if line.strip()), "") if text else ""
    return plain if len(plain) <= 200 else f"{plain[:199].rstrip()}…"
