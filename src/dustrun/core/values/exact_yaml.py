"""YAML as an alternative syntax for JSON: the same values in and out, exactly.

Only JSON's values: strings, numbers, true, false, null, lists, objects with string keys. No tags, no anchors and
aliases (a short document could expand to gigabytes), no dates, no `yes` for true. Numbers are parsed as in
`exact_json`.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from dustrun.core.values import exact_json
from dustrun.core.values.exact_json import MAX_DEPTH, JsonError

# libyaml if available: the same language, a hundred times faster.
_Loader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
# What readers of YAML 1.1 and 1.2 take for a number or a Boolean, and the dumper's own rules, which are of 1.1, do not.
_DISPUTED = re.compile(
    r"[yYnN]|[-+]?0o[0-7_]+|(?=[^eE]*[0-9_])(?:[-+][0-9._]+|[.0-9][0-9._]*)(?:[eE][-+]?[0-9]+)?",
)
_WORDS = {"null": None, "~": None, "": None, "true": True, "false": False}


class _Plain(_Dumper):  # type: ignore[misc]
    """Writes plain digits, and quotes every string that some YAML parser could take for another type."""

    def ignore_aliases(self, data: Any) -> bool:
        """Repeated values are written out, never aliased."""
        return True

    def represent_number(self, digits: Number) -> Any:
        """Writes a number verbatim."""
        kind = "float" if "." in digits.text else "int"
        return self.represent_scalar(f"tag:yaml.org,2002:{kind}", digits.text)


class Number:
    """The digits of a number, to be written without quotes."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


_Plain.add_representer(Number, _Plain.represent_number)
_Plain.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(f"^(?:{_NUMBER.pattern})$"), list("-0123456789"))
_Plain.add_implicit_resolver(
    "tag:dustrun,2026:disputed", re.compile(f"^(?:{_DISPUTED.pattern})$"), list("-+.0123456789yYnN")
)


def dumps(value: Any) -> str:
    """A JSON value as YAML, keys in order; raises `TypeError` for non-JSON values."""
    plain = _numbers(exact_json.loads(exact_json.dumps(value)))
    text: str = yaml.dump(plain, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=110)
    return text


def _numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    if value is None or isinstance(value, bool | str):
        return value
    return Number(exact_json.dumps(value).decode())


def loads(text: str) -> Any:
    """Parses one document; raises `JsonError` with position and reason."""
    try:
        return _build(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
        raise JsonError(f"{getattr(error, 'problem', None) or 'it is not YAML'}{where}") from None


class _Open:
    """A list or object under construction; `key` is the one whose value comes next."""

    __slots__ = ("key", "value")

    def __init__(self, value: dict[str, Any] | list[Any]) -> None:
        self.value = value
        self.key: str | None = None

    def add(self, item: Any, event: Any) -> None:
        """Adds the next item: in an object, keys and values alternate."""
        if isinstance(self.value, list):
            self.value.append(item)
        elif self.key is not None:
            self.value[self.key] = item
            self.key = None
        else:
            raise _refusal("a key must be a string", event)

    def take_key(self, event: Any) -> None:
        """Adds a key, always as a string: `1` and `yes` too."""
        assert isinstance(self.value, dict)
        if event.value in self.value:
            raise _refusal(f"the key {event.value[:80]!r} occurs twice", event)
        self.key = event.value

    @property
    def awaits_key(self) -> bool:
        """Whether the next scalar is a key."""
        return isinstance(self.value, dict) and self.key is None


def _refusal(message: str, event: Any) -> JsonError:
    return JsonError(f"{message} at line {event.start_mark.line + 1}, column {event.start_mark.column + 1}")


def _build(text: str) -> Any:
    """Builds values from the event stream without recursion, so that no nesting can exhaust the stack."""
    stack: list[_Open] = []
    documents: list[Any] = []
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise _refusal("anchors and aliases are not supported", event)
        if isinstance(event, yaml.ScalarEvent):
            if stack and stack[-1].awaits_key:
                _check_tag(event)
                stack[-1].take_key(event)
            else:
                _put(stack, documents, _scalar(event), event)
        elif isinstance(event, yaml.SequenceStartEvent | yaml.MappingStartEvent):
            _check_tag(event)
            if len(stack) == MAX_DEPTH:
                raise _refusal(f"nested deeper than {MAX_DEPTH} levels", event)
            opened = _Open([] if isinstance(event, yaml.SequenceStartEvent) else {})
            _put(stack, documents, opened.value, event)
            stack.append(opened)
        elif isinstance(event, yaml.SequenceEndEvent | yaml.MappingEndEvent):
            stack.pop()
    if len(documents) != 1:
        raise JsonError(f"it contains {len(documents)} documents instead of one")
    return documents[0]


def _put(stack: list[_Open], documents: list[Any], value: Any, event: Any) -> None:
    if stack:
        stack[-1].add(value, event)
    else:
        documents.append(value)


def _check_tag(event: Any) -> None:
    if event.tag not in (None, "!"):
        raise _refusal(f"the tag {event.tag[:80]!r} is not supported", event)


def _scalar(event: Any) -> Any:
    _check_tag(event)
    text: str = event.value
    if event.style or event.tag == "!":  # quoted or block scalar: always a string
        exact_json.loads(exact_json.dumps(text))
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _NUMBER.fullmatch(text):
        return exact_json.loads(text)
    return text
