"""One operation, and what is read from its declaration: parameters, body, text, encoder and weigher.

All of it is read when it is first asked for: a server has 180 operations, and most are asked for late or never.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Any, Final, TypeVar, get_args, get_origin, get_type_hints

from pydantic import BaseModel, Field, TypeAdapter, create_model
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo

from dustrun.core.values.exact_json import weigh
from dustrun.core.values.fields import Fields, ignored_names
from dustrun.errors import Code
from dustrun.operations.declaration.encoding import as_it_is, encoder_of, size_of
from dustrun.records import dataclass

T = TypeVar("T")
Handler = TypeVar("Handler", bound=Callable[..., Awaitable[Any]])
PUBLIC: Final = "public"
"""In place of a permission: no key is needed."""
ANY_KEY: Final = "any key"
_NAMES: Final = re.compile(r"\{(\w+)\}")
_NOT_SENT: Final = frozenset({"call", "request"})
_BODY: Final = "body"


class Group(Fields):
    """Query parameters that several operations share: a handler's parameter of this type gets all of them."""

    def value(self) -> Any:
        """The handler's argument."""
        return self


@dataclass(frozen=True, slots=True)
class Grouped:
    """Marks a handler's parameter that is the `value` of a group."""

    by: type[Group]


@dataclass(frozen=True, slots=True)
class Named:
    """The name of a parameter as clients send it, if not the handler's."""

    name: str


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of path or query. `name`: as clients send it; `to`: the handler's."""

    name: str
    to: str
    is_in_path: bool
    kind: Any
    default: Any

    @property
    def is_list(self) -> bool:
        """Whether it may be sent several times."""
        kinds = get_args(self.kind)[:1] if get_origin(self.kind) is Annotated else (self.kind,)
        return any(get_origin(one) is list for kind in kinds for one in (kind, *get_args(kind)))


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One operation of the API. Its handler takes `call`, the parameters, and a `body` if it has one."""

    tag: str
    method: str
    path: str
    permission: str
    """The permission that a key must have; `PUBLIC`, `ANY_KEY`."""
    answers: Any
    """The class of its answer."""
    handler: Callable[..., Awaitable[Any]]
    """Its name is the operation's id; what it returns becomes the answer."""
    refusals: Sequence[Code] = ()
    """Its error codes, besides those that every operation has."""
    example: Any = None
    """An example of its body."""
    shape: Callable[[Any], Any] | None = None
    """Makes of the result what cannot be made from the class of the answer; `as_it_is`: the handler has done that."""
    or_else: str | None = None
    """A lesser permission that is enough for some requests, as its service decides."""
    reads: str | None = None
    """The permission to read what a write answers with; a key without it gets a part."""
    needed: Sequence[str] = ()
    """Fields that this part has besides the usual ones."""
    secret: bool = False
    """Its answer is never stored for replay."""
    secret_body: bool = False
    """The stored hash of a request does not allow guessing the body."""
    accepted: str | None = None
    """When it answers 202 instead of 200."""
    unchanged: str | None = None
    """When it answers 304."""
    media_type: str | None = None
    """Of an answer that is the document itself, without an envelope."""
    by_link: Callable[[Any], Any] | None = None
    """The caller behind a signed link in the request; None if it has none. Such a request may have other parameters:
    mail programs add some."""

    @property
    def name(self) -> str:
        """Its `operationId`."""
        return self.handler.__name__

    @functools.cached_property
    def text(self) -> tuple[str, str]:
        """Its summary and description."""
        summary, _, description = (inspect.getdoc(self.handler) or "").partition("\n\n")
        return summary.replace("\n", " "), description or summary

    # --- input ---

    @functools.cached_property
    def _hints(self) -> Mapping[str, Any]:
        return get_type_hints(self.handler, include_extras=True)

    @functools.cached_property
    def _signature(self) -> Mapping[str, inspect.Parameter]:
        return inspect.signature(self.handler).parameters

    @functools.cached_property
    def takes_request(self) -> bool:
        """Whether its handler needs the request itself."""
        return "request" in self._signature

    @functools.cached_property
    def parameters(self) -> list[Parameter]:
        """Those of the path, then those of the query, then those of groups."""
        in_path = _NAMES.findall(self.path)
        own, grouped = list[Parameter](), list[Parameter]()
        for to, one in self._signature.items():
            kind = self._hints.get(to)
            if to in _NOT_SENT or to == _BODY:
                continue
            if (group := _group_of(kind)) is not None:
                grouped += [_of_group(to, part, info) for part, info in group.model_fields.items()]
                continue
            named = _mark(kind, Named)
            name = to if named is None else named.name
            default = ... if one.default is inspect.Parameter.empty else one.default
            own.append(Parameter(name, to, name in in_path, kind, default))
        return [*sorted(own, key=lambda one: not one.is_in_path), *grouped]

    @functools.cached_property
    def _groups(self) -> dict[str, type[Group]]:
        return {to: group for to, kind in self._hints.items() if (group := _group_of(kind)) is not None}

    @functools.cached_property
    def input_model(self) -> type[BaseModel] | None:
        """One model of all parameters, so that they are validated in one call; None without any. Those of groups come
        first, and so do their problems."""
        fields: dict[str, Any] = {
            one.to: (one.kind, Field(one.default, validation_alias=one.name))
            for one in sorted(self.parameters, key=lambda one: "__" not in one.to)
        }
        return create_model(self.name, __base__=_Input, **fields) if fields else None

    def arguments(self, given: BaseModel) -> dict[str, Any]:
        """The handler's arguments, of the validated parameters."""
        values = dict(given.__dict__)
        for to, group in self._groups.items():
            own = {part: values.pop(f"{to}__{part}") for part in group.model_fields}
            values[to] = group.model_construct(**own).value()
        return values

    @functools.cached_property
    def body(self) -> Any:
        """The type of its body; None without one."""
        return self._hints.get(_BODY)

    @functools.cached_property
    def must_have_body(self) -> bool:
        """Whether a request must have a body."""
        return _BODY in self._signature and self._signature[_BODY].default is inspect.Parameter.empty

    @functools.cached_property
    def body_model(self) -> type[BaseModel] | None:
        """The model of its body, without `None`."""
        kinds = get_args(self.body) or (self.body,)
        return next((one for one in kinds if isinstance(one, type) and issubclass(one, BaseModel)), None)

    @functools.cached_property
    def body_adapter(self) -> TypeAdapter[Any]:
        """Validates the body."""
        if self.body_model is not None:
            self.body_model.model_config["defer_build"] = False
        return TypeAdapter(self.body)

    @functools.cached_property
    def may_ignore(self) -> bool:
        """Whether its body, or a definition in it, may have fields that are accepted and mean nothing."""
        model = self.body_model
        return model is not None and bool(ignored_names(model) or "definition" in model.model_fields)

    # --- answer ---

    @functools.cached_property
    def encode(self) -> Callable[[Any], Any]:
        """Makes the answer's `data` of the handler's result."""
        return self.shape or encoder_of(self.answers)

    @functools.cached_property
    def size(self) -> Callable[[Any], int]:
        """How much work the answer of a result is, in the units of `weight`."""
        return weigh if self.shape is not None else size_of(self.answers)

    @property
    def weighs_whole(self) -> bool:
        """Whether `size` is that of the answer: one that was made by hand may be larger than what it was made of."""
        return self.shape is None or self.shape is as_it_is


class _Input(BaseModel):
    """Parameters of path and query."""


def _group_of(kind: Any) -> type[Group] | None:
    if isinstance(kind, type) and issubclass(kind, Group):
        return kind
    marked = _mark(kind, Grouped)
    return None if marked is None else marked.by


def _of_group(to: str, part: str, info: FieldInfo) -> Parameter:
    described = Field(description=info.description, examples=info.examples)
    kind: Any = Annotated[info.annotation, *info.metadata, described]
    default = ... if info.is_required() else info.default
    return Parameter(info.alias or to_camel(part), f"{to}__{part}", False, kind, default)


def _mark(kind: Any, of: type[T]) -> T | None:
    marks = get_args(kind)[1:] if get_origin(kind) is Annotated else ()
    return next((mark for mark in marks if isinstance(mark, of)), None)


class Noun:
    """The operations of one file, under one tag of the document. Options: the fields of `Operation`."""

    def __init__(self, tag: str) -> None:
        self._tag = tag
        self.operations: list[Operation] = []

    def _declare(self, method: str, path: str, options: dict[str, Any]) -> Callable[[Handler], Handler]:
        def declare(handler: Handler) -> Handler:
            self.operations.append(Operation(tag=self._tag, method=method, path=path, handler=handler, **options))
            return handler

        return declare

    def get(self, path: str, **options: Any) -> Callable[[Handler], Handler]:
        """Declares an operation that reads."""
        return self._declare("GET", path, options)

    def post(self, path: str, **options: Any) -> Callable[[Handler], Handler]:
        """Declares an operation that does something; a repeated Idempotency-Key gets the first answer again."""
        return self._declare("POST", path, options)

    def put(self, path: str, **options: Any) -> Callable[[Handler], Handler]:
        """Declares an operation that replaces."""
        return self._declare("PUT", path, options)

    def patch(self, path: str, **options: Any) -> Callable[[Handler], Handler]:
        """Declares an operation that changes a part."""
        return self._declare("PATCH", path, options)

    def delete(self, path: str, **options: Any) -> Callable[[Handler], Handler]:
        """Declares an operation that deletes."""
        return self._declare("DELETE", path, options)
