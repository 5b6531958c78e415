"""One operation of an imported document, as it is kept and pinned: everything that a request of it needs."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from typing import Any, Final, Literal

from dustrun.core.values import exact_json
from dustrun.records import dataclass

Effect = Literal["read", "write"]
READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
METHODS: Final = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
_PIN_CHARS: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """`field`: its name among the arguments; `place`: `path`, `query`, `header` or `cookie`."""

    name: str
    field: str
    place: str
    style: str
    explode: bool
    reserved: bool = False
    as_json: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldStyle:
    """How a field of a form is written, where the document says it."""

    style: str = "form"
    explode: bool = True
    as_json: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """`kind`: `json` or `form`; `media_type`: as it is sent."""

    kind: Literal["json", "form"]
    media_type: str
    fields: Mapping[str, FieldStyle]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedOperation:
    """`type`: `<api>.<operation>`; `args` and `result` are JSON Schemas of the arguments and of the answer's body;
    `security`: the kinds of credentials that it takes."""

    type: str
    method: str
    server: str
    path: str
    effect: Effect
    summary: str
    description: str
    tags: tuple[str, ...]
    security: tuple[str, ...]
    accept: str | None
    parameters: tuple[Parameter, ...]
    body: Body | None
    args: Mapping[str, Any]
    result: Any

    def with_effect(self, effect: Effect) -> ImportedOperation:
        """The same with the effect that somebody says it has."""
        return replace(self, effect=effect)

    def with_summary(self, summary: str) -> ImportedOperation:
        """The same with a better summary than the document's, which stays findable in its description."""
        return replace(self, summary=summary, description=self.description or self.summary)

    def to_json(self) -> dict[str, Any]:
        """As it is kept."""
        found = {name: getattr(self, name) for name in sorted(each.name for each in fields(self))}
        return {  # the schemas as they are: a copy of them takes longer than their text
            **found,
            "parameters": [asdict(one) for one in self.parameters],
            "body": None if self.body is None else asdict(self.body),
        }


def text_of_operation(operation: ImportedOperation) -> bytes:
    """The canonical JSON of an operation."""
    return exact_json.dumps(operation.to_json(), canonical=True)


def pin_of(text: bytes) -> str:
    """The hash that pins a node: the first half of the SHA-256 of the operation's canonical JSON."""
    return hashlib.sha256(text).hexdigest()[:_PIN_CHARS]


@functools.lru_cache(maxsize=256)
def read_operation(text: bytes) -> ImportedOperation:
    """The operation of what `text_of_operation` wrote."""
    found = exact_json.loads_own(text)
    body = found["body"]
    return ImportedOperation(
        **{
            **found,
            "tags": tuple(found["tags"]),
            "security": tuple(found["security"]),
            "parameters": tuple(Parameter(**one) for one in found["parameters"]),
            "body": body
            and Body(**{**body, "fields": {name: FieldStyle(**one) for name, one in body["fields"].items()}}),
        }
    )
