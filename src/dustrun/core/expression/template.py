"""Text with `{{ … }}` in it: parsed and compiled once, evaluated often."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from dustrun.core.expression.border import as_text, to_json
from dustrun.core.expression.compile import Compiler, QuickPath, quick_path
from dustrun.core.expression.fault import ExpressionError, ExpressionErrors, Fault, line_and_column, span_at
from dustrun.core.expression.operators import MAX_VALUE_DEPTH
from dustrun.core.expression.references import Reference, UnplacedReference, find_references
from dustrun.core.expression.syntax.parse import COMMENT, RAW_STRING, STRING, parse
from dustrun.core.expression.syntax.tree import Node
from dustrun.core.expression.values import DEFAULT_LIMITS, EvaluationLimits, Frame, Function, Lazy, Meter, Roots
from dustrun.core.values.exact_json import weigh

MAX_TEMPLATE = 1_048_576
_NOT_PLAIN = (Lazy, Function)

_TOKEN = re.compile(f"(?P<quiet>{RAW_STRING}|{STRING}|{COMMENT})|(?P<open>\\{{)|(?P<close>\\}})|.", re.DOTALL)
_MARK = re.compile(r"\{\{\{\{|\{\{|\}\}\}\}")


class Expression:
    """One expression of a template, starting at `offset` in the template's text."""

    __slots__ = ("found", "node", "offset", "quick", "run", "slots")

    def __init__(self, text: str, offset: int) -> None:
        self.offset = offset
        self.node: Node | None = None
        self.slots = 0
        self.quick: QuickPath | None = quick_path(text)
        if self.quick is not None:
            self.found: tuple[UnplacedReference, ...] = (self.quick.found,)
            self.run: Callable[[Frame], Any] = self.quick.run
            return
        compiler = Compiler()
        self.node = parse(text)
        self.found = find_references(self.node)
        self.run = compiler.compile(self.node)
        self.slots = compiler.slots

    def evaluate(self, roots: Roots, meter: Meter, within_text: bool) -> Any:
        """The value as JSON, or as text within text."""
        if self.quick is not None:
            value = self.quick.fetch(roots)
            if type(value) is str:
                return value
        frame = Frame(roots, meter, self.slots)
        if self.node is not None:
            frame.meter.charge(self.node.weight)
            if self.node.height > meter.limits.depth:
                raise Fault("limit", f"the expression is nested deeper than {meter.limits.depth} levels")
        value = self.run(frame)
        return as_text(frame.meter, value) if within_text else to_json(frame.meter, value)


Part = str | Expression


class Template:
    """A parsed template. `is_whole`: it is exactly one expression, so the JSON type of the result is kept.

    `is_static`: it contains no expression. `references`: what it refers to, found without evaluating it.
    """

    __slots__ = ("_only", "_parts", "_quick", "is_static", "is_whole", "references", "source")

    def __init__(self, source: str, parts: tuple[Part, ...]) -> None:
        self.source = source
        self._parts = parts
        self.is_static = all(isinstance(part, str) for part in parts)
        self.is_whole = len(parts) == 1 and not self.is_static
        self._only = parts[0] if len(parts) == 1 and isinstance(parts[0], Expression) else None
        self._quick = self._only.quick if self._only else None
        self.references = tuple(
            _placed(source, found, part.offset)
            for part in parts
            if isinstance(part, Expression)
            for found in part.found
        )

    def evaluate(self, roots: Roots, limits: EvaluationLimits = DEFAULT_LIMITS) -> Any:
        """Evaluates the template for these roots; raises `ExpressionError`."""
        return self.evaluate_within(roots, Meter(limits))

    def evaluate_within(self, roots: Roots, meter: Meter) -> Any:
        """Like `evaluate`, with a meter that other templates use as well."""
        if self._quick is not None:
            value = self._quick.fetch(roots)
            if value is not None and not isinstance(value, _NOT_PLAIN):
                return value
        if self._only is not None:
            return self._guarded(self._only, roots, meter, False)
        return self._joined(roots, meter)

    def _joined(self, roots: Roots, meter: Meter) -> str:
        out: list[str] = []
        size = 0
        for part in self._parts:
            text = part if isinstance(part, str) else self._guarded(part, roots, meter, True)
            size += len(text)
            if size > meter.size and not self.is_static:
                message = f"a text of {size} characters is too large; the limit is {meter.size}"
                raise ExpressionError(message, kind="limit", source=self.source)
            meter.charge(len(text) >> 6)
            out.append(text)
        return "".join(out)

    def _guarded(self, part: Expression, roots: Roots, meter: Meter, within_text: bool) -> Any:
        try:
            return part.evaluate(roots, meter, within_text)
        except Fault as fault:
            raise _error(self.source, part.offset, fault) from None
        except RecursionError:
            raise _error(self.source, part.offset, Fault("limit", "the expression is nested too deeply")) from None


def _placed(source: str, found: UnplacedReference, offset: int) -> Reference:
    line, column = line_and_column(source, offset + found.at)
    return Reference(found.root, found.path, line, column, found.guarded, span_at(source, offset + found.at))


def _error(source: str, offset: int, fault: Fault) -> ExpressionError:
    message = fault.message + (fault.hint() if fault.hint else "")
    return ExpressionError(
        message, kind=fault.kind, source=source, offset=offset + (fault.offset or 0), path=fault.path
    )


def parse_template(text: str) -> Template:
    """Parses text with `{{ … }}`; raises `ExpressionError`. Text without `{{` is a constant."""
    if "{{" not in text:
        return Template(text, (text,) if text else ())
    if len(text) > MAX_TEMPLATE:
        raise ExpressionError(
            f"a template of {len(text)} characters is too long; the limit is {MAX_TEMPLATE}", kind="limit"
        )
    return Template(text, tuple(_parts(text)))


def parse_expression(text: str) -> Template:
    """Parses a bare expression, without braces; raises `ExpressionError`."""
    return Template(text, (_expression(text, text, 0),))


def _parts(text: str) -> list[Part]:
    parts: list[Part] = []
    plain: list[str] = []
    place = open_escapes = 0
    while match := _MARK.search(text, place):
        plain.append(text[place : match.start()])
        place = match.end()
        mark = match.group()
        if mark == "{{":
            end = _end(text, place)
            _flush(parts, plain)
            parts.append(_expression(text, text[place:end], place))
            place = end + 2
        elif mark == "{{{{":
            plain.append("{{")
            open_escapes += 1
        else:
            # Compact JSON around an expression may end in many braces: only a brace that was opened is an escape.
            plain.append("}}" if open_escapes else mark)
            open_escapes = max(0, open_escapes - 1)
    plain.append(text[place:])
    _flush(parts, plain)
    return parts


def _flush(parts: list[Part], plain: list[str]) -> None:
    joined = "".join(plain)
    plain.clear()
    if joined:
        parts.append(joined)


def _end(text: str, start: int) -> int:
    """The end of the expression that begins here: the `}}` outside of its strings, comments and own braces."""
    level, place = 0, start
    while match := _TOKEN.match(text, place):
        if match.lastgroup == "open":
            level += 1
        elif match.lastgroup == "close":
            if level == 0 and text.startswith("}}", place):
                return place
            level -= 1
        place = match.end()
    raise ExpressionError('"{{" is not closed by "}}"', kind="syntax", source=text, offset=start - 2)


def _expression(source: str, text: str, offset: int) -> Expression:
    try:
        return Expression(text, offset)
    except Fault as fault:
        raise _error(source, offset, fault) from None
    except RecursionError:
        raise _error(source, offset, Fault("limit", "the expression is nested too deeply")) from None


# Templates in a whole payload: any string may be a template; parts without templates are shared, not copied.


_TEMPLATE = re.compile(r"\{\{(.*?)(?:\}\}|\Z)", re.DOTALL)
Make = Callable[[Roots, Meter], Any]


class CompiledValue:
    """A compiled payload. `references` pairs a field path (`rows[0].amount`) with each reference in that field's
    template. `weight`: the units of its value if that is constant; it may be evaluated a thousand times.
    """

    __slots__ = ("_make", "_value", "is_static", "references", "weight")

    def __init__(self, value: Any, make: Make | None, references: tuple[tuple[str, Reference], ...]) -> None:
        self._value = value
        self._make = make
        self.is_static = make is None
        self.weight = weigh(value) if self.is_static else None
        self.references = references

    def evaluate(self, roots: Roots, limits: EvaluationLimits = DEFAULT_LIMITS) -> Any:
        """Evaluates the payload for these roots; an `ExpressionError` carries the field. Do not mutate the result."""
        return self._value if self._make is None else self._make(roots, Meter(limits))


class _Compiler:
    def __init__(self) -> None:
        self.references: list[tuple[str, Reference]] = []
        self.errors: list[ExpressionError] = []

    def compile(self, value: Any, field: str, depth: int) -> Make | None:
        """The evaluator of a value, or None when it is constant."""
        if isinstance(value, str):
            return self._text(value, field)
        if depth > MAX_VALUE_DEPTH:
            self.errors.append(ExpressionError("the payload is nested too deeply", kind="limit", field=field))
            return None
        if isinstance(value, dict):
            parts = ((key, self.compile(item, _joined(field, key), depth + 1)) for key, item in value.items())
            return _map_maker(value, {key: make for key, make in parts if make})
        if isinstance(value, list):
            items = [self.compile(item, f"{field}[{i}]", depth + 1) for i, item in enumerate(value)]
            return _list_maker(value, {i: make for i, make in enumerate(items) if make})
        return None

    def _text(self, text: str, field: str) -> Make | None:
        if "{{" not in text:
            return None
        try:
            template = parse_template(text)
        except ExpressionError as error:
            error.field = field
            self.errors.append(error)
            return None
        self.references.extend((field, reference) for reference in template.references)
        return _template_maker(template, field)


def _joined(field: str, key: str) -> str:
    return f"{field}.{key}" if field else str(key)


def _template_maker(template: Template, field: str) -> Make:
    evaluate = template.evaluate_within

    def make(roots: Roots, meter: Meter) -> Any:
        try:
            return evaluate(roots, meter)
        except ExpressionError as error:
            error.field = field
            raise

    return make


def _map_maker(value: dict[str, Any], makers: dict[str, Make]) -> Make | None:
    if not makers:
        return None
    pairs = tuple(makers.items())

    def make(roots: Roots, meter: Meter) -> dict[str, Any]:
        filled = dict(value)
        for key, maker in pairs:
            filled[key] = maker(roots, meter)
        return filled

    return make


def _list_maker(value: list[Any], makers: dict[int, Make]) -> Make | None:
    if not makers:
        return None
    pairs = tuple(makers.items())

    def make(roots: Roots, meter: Meter) -> list[Any]:
        filled = list(value)
        for number, maker in pairs:
            filled[number] = maker(roots, meter)
        return filled

    return make


def _compiled(value: Any, raw: frozenset[str]) -> tuple[Make | None, _Compiler]:
    compiler = _Compiler()
    if not isinstance(value, dict) or not raw:
        return compiler.compile(value, "", 0), compiler
    parts: Iterator[tuple[str, Make | None]] = (
        (key, compiler.compile(item, key, 1)) for key, item in value.items() if key not in raw
    )
    return _map_maker(value, {key: make for key, make in parts if make}), compiler


def compile_value(value: Any, raw: frozenset[str] = frozenset()) -> CompiledValue:
    """Compiles every template of a payload except under the `raw` top-level keys; raises `ExpressionErrors` with all
    errors.
    """
    make, compiler = _compiled(value, raw)
    if compiler.errors:
        raise ExpressionErrors(compiler.errors)
    return CompiledValue(value, make, tuple(compiler.references))


def read_value(
    value: Any, raw: frozenset[str] = frozenset()
) -> tuple[list[ExpressionError], list[tuple[str, Reference]]]:
    """Every compile error in a payload, each with its field; and (field, reference) of everything it refers to."""
    compiler = _compiled(value, raw)[1]
    return compiler.errors, compiler.references


def measure(value: Any) -> int:
    """Characters of the templates in a payload that the parser must read, which takes 20 microseconds each."""
    if isinstance(value, str):
        return (
            sum(len(found) for found in _TEMPLATE.findall(value) if quick_path(found) is None) if "{{" in value else 0
        )
    if isinstance(value, dict | list):
        return sum(measure(item) for item in (value.values() if isinstance(value, dict) else value))
    return 0
