"""Encoders of answers, compiled from their classes: for each class one function that makes the dict which one call of
orjson encodes, written when its first answer is asked for.

A field's value is the source's attribute of the same name, or what `From` says. What its type says is done to it: a
`Time` is formatted, a `bool` made of 0 and 1, another answer or a list of them encoded in its turn, `STORED` text read.
A weigher of the source is written likewise: it looks only at the fields that can be long, since to weigh all of a page
takes longer than to encode it.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo

from dustrun.clock import to_rfc3339
from dustrun.core.values.exact_json import loads_own, weigh
from dustrun.operations.declaration.answers import ADDED, MADE, MOMENT, OR_ABSENT, STORED, Answer, From, PageAnswer
from dustrun.records import dataclass

Encode = Callable[[Any], Any]
_NONE: Final = type(None)
_NO_FIELDS: Final = frozenset({"model_config", "inherited_of"})
_SHORT: Final = frozenset({int, bool})


def encoder_of(answer: Any) -> Encode:
    """The function that makes the dict of a source: for a class, or a page or list of one. Anything else is a value
    that the handler has made as it is sent."""
    if _is_page(answer):
        return functools.partial(_page, encoder_of(_item_of(answer)), _more_of(answer))
    if get_origin(answer) is list and _is_answer(get_args(answer)[0]):
        one = _encoder(get_args(answer)[0])
        return lambda found: [one(each) for each in found]
    return _encoder(answer) if _is_answer(answer) else as_it_is


def data_of(answer: Any, source: Any) -> dict[str, Any]:
    """The dict of one answer, for a larger one that is made by hand."""
    found: dict[str, Any] = _encoder(answer)(source)
    return found


def size_of(answer: Any) -> Callable[[Any], int]:
    """The function that says how much work the answer of a source is, in the units of `weight`."""
    if _is_page(answer):
        one = size_of(_item_of(answer))
        return lambda page: sum(map(one, page.items))
    return _weigher(answer) if _is_answer(answer) else weigh


def as_it_is(value: Any) -> Any:
    """For what the handler has made as it is sent."""
    return value


def _is_page(answer: Any) -> bool:
    return isinstance(answer, type) and issubclass(answer, PageAnswer)


def _is_answer(answer: Any) -> bool:
    return isinstance(answer, type) and issubclass(answer, Answer)


def _item_of(page: Any) -> Any:
    return get_args(page.model_fields["items"].annotation)[0]


def _more_of(page: Any) -> dict[str, Encode]:
    """The fields that a kind of page has besides the usual ones, each with its function of the page."""
    return {
        info.alias or to_camel(name): mark.source
        for name, info in page.model_fields.items()
        for mark in info.metadata
        if isinstance(mark, From) and callable(mark.source)
    }


def _page(items: Encode, more: Mapping[str, Encode], page: Any) -> dict[str, Any]:
    shown = {
        "items": [items(one) for one in page.items],
        "limit": page.limit,
        "offset": page.offset,
        "hasMore": page.has_more,
    }
    for name, read in more.items():
        shown[name] = read(page)
    return shown


@functools.cache
def _encoder(answer: type[Answer]) -> Encode:
    return _Writer(answer).encoder()


@functools.cache
def _weigher(answer: type[Answer]) -> Callable[[Any], int]:
    return _Writer(answer).weigher()


def _stored(text: str | None) -> Any:
    return loads_own(text) if text else None


@dataclass(frozen=True, slots=True)
class _Field:
    """One field of an answer, taken apart. `of`: the attribute of the source that it is of; empty: the source."""

    name: str
    of: str
    wire: str
    kind: Any
    may_be_none: bool
    marks: tuple[Any, ...]

    @property
    def source(self) -> str | Encode:
        """Where its value comes from."""
        return next((mark.source for mark in self.marks if isinstance(mark, From)), self.name)

    @property
    def missing(self) -> Any:
        """Its value if an attribute on the way is None."""
        return next((mark.missing for mark in self.marks if isinstance(mark, From)), None)


class _Writer:
    """Writes the functions of one class."""

    def __init__(self, answer: type[Answer]) -> None:
        self._answer = answer
        self._names: dict[str, Any] = {"rfc3339": to_rfc3339, "stored": _stored, "weigh": weigh}
        self._held: dict[str, str] = {}
        """By attribute: the variable that holds it."""

    def encoder(self) -> Encode:
        """`def encode(one): return {"id": one.id, …}`."""
        always, after = list[str](), list[str]()
        for field in _fields(self._answer):
            value = self._value(field)
            if OR_ABSENT in field.marks:
                after += [f"    if (found := {value}) is not None:", f"        made[{field.wire!r}] = found"]
            else:
                always.append(f"        {field.wire!r}: {value},")
        start, end = ("made =", ["    return made"]) if after else ("return", [])
        whole: Encode = self._compiled([f"    {start} {{", *always, "    }", *after, *end])
        return whole

    def weigher(self) -> Callable[[Any], int]:
        """A function of a source: a unit a field, one for 64 characters of its texts, and the weight of all others."""
        fields = list(_fields(self._answer))
        sizes = [size for field in fields if (size := self._size(field)) is not None]
        whole: Callable[[Any], int] = self._compiled([f"    return {' + '.join([str(len(fields)), *sizes])}"])
        return whole

    def _compiled(self, lines: list[str]) -> Any:
        held = [f"    {name} = {read}" for read, name in self._held.items()]
        text = "\n".join(["def made_of(one):", *held, *lines, ""])
        exec(compile(text, f"<{self._answer.__name__}>", "exec"), self._names)  # noqa: S102 -- of our own classes only
        return self._names["made_of"]

    def _size(self, field: _Field) -> str | None:
        kind = field.kind
        if kind in _SHORT or MOMENT in field.marks or get_origin(kind) is Literal:
            return None
        if isinstance(kind, type) and issubclass(kind, Enum):
            return None
        read = self._read(field)
        is_text = kind is str or STORED in field.marks
        return f"(0 if (x := {read}) is None else len(x) >> 6)" if is_text else f"weigh({read})"

    def _value(self, field: _Field) -> str:
        read, kind = self._read(field), field.kind
        if MADE in field.marks:
            return read
        if STORED in field.marks:
            return f"stored({read})"
        if MOMENT in field.marks:
            return _unless_none("rfc3339({})", read, field.may_be_none)
        if kind is bool:
            return _unless_none("bool({})", read, field.may_be_none)
        if _is_answer(kind):
            return _unless_none(f"{self._known(_encoder(kind))}({{}})", read, field.may_be_none)
        if get_origin(kind) is list and _is_answer(get_args(kind)[0]):
            one = self._known(_encoder(get_args(kind)[0]))
            return _unless_none(f"[{one}(each) for each in {{}}]", read, field.may_be_none)
        return read

    def _read(self, field: _Field) -> str:
        one = self._hold(f"one.{field.of}") if field.of else "one"
        if not isinstance(field.source, str):
            return f"{self._known(field.source)}({one})"
        way, _, last = field.source.rpartition(".")
        if not way:
            return f"{one}.{last}"
        held = self._hold(f"{one}.{way}")
        return f"({field.missing!r} if {held} is None else {held}.{last})"

    def _hold(self, read: str) -> str:
        return self._held.setdefault(read, f"held{len(self._held)}")

    def _known(self, thing: Any) -> str:
        name = f"f{len(self._names)}"
        self._names[name] = thing
        return name


def _unless_none(form: str, read: str, may_be_none: bool) -> str:
    if not may_be_none:
        return form.format(read)
    return f"(None if (x := {read}) is None else {form.format('x')})"


def _fields(answer: type[Answer]) -> Iterator[_Field]:
    """Each field, those of base classes first."""
    for name, annotated in get_type_hints(answer, include_extras=True).items():
        if name in _NO_FIELDS:
            continue
        default = getattr(answer, name, None)
        alias = default.alias if isinstance(default, FieldInfo) else None
        kind, marks = _opened(annotated)
        kind, may_be_none = _without_none(kind)
        kind, more = _opened(kind)
        if ADDED not in marks:
            yield _Field(name, _of(answer, name), alias or to_camel(name), kind, may_be_none, (*marks, *more))


def _of(answer: type[Answer], name: str) -> str:
    """The attribute of the source that a field is of."""
    way: list[str] = []
    while name not in inspect.get_annotations(answer):
        way += [answer.inherited_of] if answer.inherited_of else []
        answer = next(base for base in answer.__bases__ if name in get_type_hints(base))
    return ".".join(way)


def _opened(annotated: Any) -> tuple[Any, tuple[Any, ...]]:
    if get_origin(annotated) is not Annotated:
        return annotated, ()
    kind, *marks = get_args(annotated)
    return kind, tuple(marks)


def _without_none(kind: Any) -> tuple[Any, bool]:
    if get_origin(kind) not in (Union, types.UnionType):
        return kind, False
    others = [one for one in get_args(kind) if one is not _NONE]
    return (others[0] if len(others) == 1 else kind), len(others) < len(get_args(kind))
