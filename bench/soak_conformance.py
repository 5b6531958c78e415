"""Runs the CEL specification's own conformance cases against the expression language.

    scripts/soak conformance --cel PATH_OF_A_CHECKOUT_OF_google/cel-spec
    scripts/soak conformance --cron FOLDER_WITH_CHECKOUTS_OF_croniter_AND_cronsim

A case is out of scope only for a named reason: a deviation listed in `docs/reference/expressions.md`, or a part of
CEL that we do not claim (protobuf messages, extension libraries, static type checking).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from bench import cron_conformance
from dustrun.core.expression.fault import Fault
from dustrun.core.expression.logic import TYPES
from dustrun.core.expression.operators import same
from dustrun.core.expression.template import Expression
from dustrun.core.expression.times import SECOND
from dustrun.core.expression.values import Duration, EvaluationLimits, Frame, Meter, Timestamp, TypeName, map_key

# --- the text format of protobuf, as far as the cases use it -------------------------------------------------------

_TOKENS = re.compile(
    r"""\s+|\#[^\n]*|(?P<text>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')|(?P<mark>[{}<>\[\]:,;])|(?P<word>[^\s{}<>\[\]:,;"'#]+)"""
)
Message = dict[str, list[Any]]


class TextProto:
    """Reads a file into nested `{field: [values]}`; texts are bytes, the rest words."""

    def __init__(self, text: str) -> None:
        self.tokens = [m for m in _TOKENS.finditer(text) if m.lastgroup]
        self.place = 0

    def message(self, end: str | None = None) -> Message:
        """The fields up to a closing mark."""
        found: Message = {}
        while self.place < len(self.tokens):
            token = self._next()
            if token == end:
                return found
            if token in (",", ";"):
                continue
            name = self._any_name() if token == "[" else token
            if self._peek() == ":":
                self._next()
            found.setdefault(name, []).extend(self._values())
        return found

    def _any_name(self) -> str:
        name = ""
        while (token := self._next()) != "]":
            name += token
        return f"[{name}]"

    def _values(self) -> list[Any]:
        token = self._peek()
        if token == "[":
            self._next()
            values: list[Any] = []
            while self._peek() != "]":
                values += self._values()
                if self._peek() == ",":
                    self._next()
            self._next()
            return values
        if token in ("{", "<"):
            self._next()
            return [self.message("}" if token == "{" else ">")]
        if self.tokens[self.place].lastgroup != "text":
            return [self._next()]
        text = b""
        while self.place < len(self.tokens) and self.tokens[self.place].lastgroup == "text":
            text += _unquote(self._next())
        return [text]

    def _next(self) -> str:
        self.place += 1
        return self.tokens[self.place - 1].group()

    def _peek(self) -> str | None:
        return self.tokens[self.place].group() if self.place < len(self.tokens) else None


def _unquote(token: str) -> bytes:
    simple = {"n": b"\n", "r": b"\r", "t": b"\t", "a": b"\a", "b": b"\b", "f": b"\f", "v": b"\v"}

    def one(match: re.Match[bytes]) -> bytes:
        body = match.group(1).decode()
        if body[0] in "xX":
            return bytes([int(body[1:], 16)])
        if body[0] in "uU":
            return chr(int(body[1:], 16)).encode()
        return bytes([int(body, 8)]) if body[0] in "01234567" else simple.get(body, body.encode())

    pattern = rb"\\([xX][0-9a-fA-F]{1,2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-7]{1,3}|.)"
    return re.sub(pattern, one, token[1:-1].encode(), flags=re.DOTALL)


# --- the cases -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One case of one file."""

    file: str
    section: str
    name: str
    test: Message

    @property
    def id(self) -> str:
        """`file/section/name`."""
        return f"{self.file}/{self.section}/{self.name}"

    @property
    def expression(self) -> str:
        """The expression's text."""
        return str(self.test["expr"][0].decode())


def read_cases(folder: Path) -> Iterator[Case]:
    """Every case of every file, in order."""
    for path in sorted(folder.glob("*.textproto")):
        content = TextProto(path.read_text()).message()
        for section in content.get("section", []):
            for test in section.get("test", []):
                yield Case(path.stem, _text(section["name"]), _text(test["name"]), test)


def _text(values: list[Any]) -> str:
    return str(values[0].decode())


class Unsupported(Exception):
    """A value of a case that our language does not have."""


def value_of(message: Message) -> Any:
    """An expected or bound value as ours."""
    (kind, values), *_ = message.items()
    value = values[0]
    if kind in ("int64_value", "uint64_value"):
        return int(value, 0)
    if kind == "double_value":
        if not re.fullmatch(r"-?[0-9.]+([eE][+-]?[0-9]+)?", value):
            raise Unsupported("infinity or NaN")
        return Decimal(value)
    if kind == "bool_value":
        return value == "true"
    if kind == "null_value":
        return None
    if kind in ("string_value", "bytes_value"):
        return value.decode() if kind == "string_value" else value
    if kind == "list_value":
        return [value_of(item) for item in value.get("values", [])]
    if kind == "map_value":
        entries = value.get("entries", [])
        return {map_key(value_of(e["key"][0])): value_of(e["value"][0]) for e in entries}
    if kind == "type_value":
        name = value.decode()
        return TYPES.get(name) or TypeName(name)
    if kind == "object_value":
        return _well_known(value)
    raise Unsupported(kind)


def _well_known(message: Message) -> Timestamp | Duration:
    (name, values), *_ = message.items()
    kinds: dict[str, type[Timestamp] | type[Duration]] = {"Timestamp": Timestamp, "Duration": Duration}
    made = kinds.get(name.rstrip("]").rsplit(".", 1)[-1])
    if made is None:
        raise Unsupported("a protobuf message")
    parts = values[0]
    return made(int(parts.get("seconds", ["0"])[0]) * SECOND + int(parts.get("nanos", ["0"])[0]))


# --- what is out of scope, and why ---------------------------------------------------------------------------------

EXTENSION = "extension library: not part of the language claimed"
MESSAGES = "protobuf messages and enums: our values are JSON, bytes, moments and spans"
CHECKER = "static type checking: our checks are those of references and function names"
CONTAINERS = "containers and qualified variable names: our roots are $names and node ids"
UNBOUNDED = "deviation: integers are unbounded, uint literals are integers"
DECIMALS = "deviation: decimals instead of binary floats, exact division, one tower of numbers, no infinity, no NaN"
FALLBACK = "deviation: `a || b` with a left side that is not a bool is a fallback"
OURS = "deviation: our function of this name goes beyond CEL's or differs, as documented"

_FILES = {
    "block_ext": EXTENSION, "encoders_ext": EXTENSION, "math_ext": EXTENSION,
    "network_ext": EXTENSION, "optionals": EXTENSION,
    "dynamic": MESSAGES, "enums": MESSAGES, "proto2": MESSAGES, "proto2_ext": MESSAGES, "proto3": MESSAGES,
    "wrappers": MESSAGES, "type_deduction": CHECKER, "namespace": CONTAINERS,
}  # fmt: skip

#: pattern of a case's id → reason
_CASES: tuple[tuple[str, str], ...] = (
    (r"basic/functions/unbound_is_runtime_error", CHECKER),
    (r"comparisons/.*/not_(lt_dyn_(int_big_lossy|small)|gt_dyn_(int_small_lossy|big))_double(_int)?", DECIMALS),
    (r"comparisons/.*/(lte_dyn_(int_small_lossy|big)|gte_dyn_(int_big_lossy|small))_double(_int)?", DECIMALS),
    (r"conversions/u?int/(uint_range|double_.*range.*)", UNBOUNDED),
    (r"conversions/u?int/double_big_precision", DECIMALS),
    (r"conversions/type/eq_diff", UNBOUNDED),
    (r"fields/.*_or_false|lists/index/.*_or_false|logic/OR/(short_circuit_type_right|no_overload)", FALLBACK),
    (
        r"fields/qualified_identifier_resolution/(qualified_ident|map_field_select|ident_with_.*|.*unchecked)",
        CONTAINERS,
    ),
    (r"fp_math/fp_math/(mod_not_support|fp_underflow)", DECIMALS),
    (r"integer_math/.*(overflow|min_negate|negative_no_overload|minus_no_overload).*", UNBOUNDED),
    (r"string_ext/(ascii_casing|quote)/.*", EXTENSION),
    (r"string_ext/format/(null|bytes|list|map|dyntype) support for (string|lists|maps)", OURS),
)
_NO_NUMBERS = re.compile(r"NaN|Infinity|0\.0 ?/ ?0\.0")


def out_of_scope(case: Case) -> str | None:
    """Why a case is not ours to pass; None when it is."""
    if case.file in _FILES:
        return _FILES[case.file]
    if "type_env" in case.test and "bindings" not in case.test and "check_only" in case.test:
        return CHECKER
    if "TestAllTypes" in case.expression or re.search(r"google\.protobuf\.\w+\s*\{", case.expression):
        return MESSAGES
    if _NO_NUMBERS.search(case.expression):
        return DECIMALS
    return next((reason for pattern, reason in _CASES if re.fullmatch(pattern, case.id)), None)


# --- running -------------------------------------------------------------------------------------------------------


class _Bound:
    def __init__(self, names: dict[str, Any]) -> None:
        self.names = names

    def root(self, name: str) -> Any:
        return self.names[name]


def evaluate(case: Case) -> Any:
    """What our language makes of a case; raises `Fault`."""
    names = {
        _text(binding["key"]): value_of(binding["value"][0]["value"][0]) for binding in case.test.get("bindings", [])
    }
    expression = Expression(case.expression, 0)
    frame = Frame(_Bound(names), Meter(EvaluationLimits()), expression.slots)
    return expression.run(frame)


def check(case: Case) -> str | None:
    """None when a case passes, otherwise what was wrong."""
    expects_error = "eval_error" in case.test
    expected = value_of(case.test["value"][0]) if "value" in case.test else True
    if "typed_result" in case.test:
        return "typed result"
    try:
        found = evaluate(case)
    except Fault as fault:
        return None if expects_error else f"{fault.kind}: {fault.message}"
    if expects_error:
        return f"no error but {found!r}"
    return None if same(Meter(EvaluationLimits()), found, expected) else f"{found!r}, not {expected!r}"


def run(
    scale: int | None = None, seed: int = 0, *, cel: str = "", cron: str = "", revision: str = "not told"
) -> dict[str, Any]:
    """Runs every case in scope of a checkout of google/cel-spec at `cel`, or of the checkouts `croniter` and `cronsim`
    in the folder `cron`: the counts, the reasons, the failures."""
    if not cel and not cron:
        raise SystemExit(
            "Give --cel with a checkout of google/cel-spec, or --cron with a folder of croniter and cronsim."
        )
    found: dict[str, Any] = {"revision": revision, "failures": {}}
    if cel:
        found |= _cel(Path(cel))
    if cron:
        found["cron"] = cron_conformance.run(Path(cron))
        found["failures"] |= found["cron"].pop("failures")
    return found


def _cel(cel_path: Path) -> dict[str, Any]:
    excluded: Counter[str] = Counter()
    failures: dict[str, str] = {}
    passed = 0
    for case in read_cases(cel_path / "tests" / "simple" / "testdata"):
        try:
            reason = out_of_scope(case)
            problem = None if reason else check(case)
        except Unsupported as error:
            reason, problem = (DECIMALS if "NaN" in str(error) else MESSAGES), None
        if reason:
            excluded[reason] += 1
        elif problem:
            failures[case.id] = f"{case.expression!r}: {problem}"
        else:
            passed += 1
    return {
        "in": passed + len(failures),
        "out": sum(excluded.values()),
        "passed": passed,
        "failed": len(failures),
        "excluded": dict(excluded.most_common()),
        "failures": failures,
    }
