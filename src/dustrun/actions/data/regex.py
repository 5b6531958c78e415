r"""Searches or replaces text with a regular expression.

`test` checks whether the pattern matches, `match` returns the first match, `all` returns every match, `replace`
replaces each. Positions count characters from 0. Patterns are RE2 (https://github.com/google/re2/wiki/Syntax): they run
in linear time, so there are no look-arounds and no backreferences. In `replacement`, `\1` or `\g<name>` refers to a
group and `\\` is a backslash. `pattern` is never evaluated as a template.
"""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final, Literal

from pydantic import Field, field_validator, model_validator

from dustrun.actions.data.items import refuse
from dustrun.sdk import Context, Effect, Fields, action
from dustrun.sdk.fields import raw
from dustrun.sdk.threads import run_in_thread

_MOST_CHARS: Final = 1_048_576
# One search is linear, but each of many may scan the whole rest of the text: this bounds their sum.
_MOST_WORK: Final = 1_000_000_000
_MOST_MEMORY: Final = 2_097_152
# Worst case: every step of the pattern for every character, 15 ns each.
_MOST_STEPS: Final = 1_000_000_000
_GROUP = re.compile(r"\\(?:([0-9]{1,2})|g<([A-Za-z0-9_]+)>|(\\)|(.?))", re.DOTALL)


class Input(Fields):
    """The text, the pattern and the operation."""

    text: str = Field(max_length=_MOST_CHARS, description="The text to search.")
    pattern: str = raw(description="The RE2 expression.", max_length=1000)
    operation: Literal["test", "match", "all", "replace"] = Field("match", description="The operation.")
    replacement: str | None = Field(None, description="The replacement for each match, for `replace`.")
    ignore_case: bool = Field(False, description="Whether to ignore case.")
    multiline: bool = Field(False, description="Whether `^` and `$` also match at line breaks.")
    dot_all: bool = Field(False, description="Whether `.` also matches a line break.")
    max_matches: int = Field(1000, ge=1, le=10_000, description="Fail the node if there are more matches than this.")

    @field_validator("pattern")
    @classmethod
    def _readable(cls, pattern: str) -> str:
        _compile(pattern, "")
        return pattern

    @model_validator(mode="after")
    def _fits(self) -> Input:
        if (self.replacement is not None) != (self.operation == "replace"):
            raise ValueError("`replace` requires `replacement`; other operations do not allow it")
        if self.replacement is not None and "{{" not in self.replacement:
            _parts(self.replacement, self.compiled())
        return self

    def compiled(self) -> Any:
        """The compiled pattern."""
        flags = "i" * self.ignore_case + "m" * self.multiline + "s" * self.dot_all
        return _compile(self.pattern, flags)


class Match(Fields):
    """One match."""

    text: str = Field(description="The text of the match.")
    start: int = Field(description="Start position, in characters from 0.")
    end: int = Field(description="End position (exclusive).")
    groups: list[str | None] = Field(description="The groups in order; null for one that did not match.")
    named: dict[str, str | None] = Field(description="The named groups.")


class Output(Fields):
    """The matches; `test` sets only `matched`, `replace` only `matched`, `count` and `text`."""

    matched: bool = Field(description="Whether the pattern matched.")
    match: Match | None = Field(None, description="The first match.")
    matches: list[Match] = Field([], description="Every match, for `all`.")
    count: int = Field(0, description="Number of matches found or replaced.")
    text: str | None = Field(None, description="The whole text after `replace`.")


@functools.lru_cache(maxsize=64)
def _compile(pattern: str, flags: str) -> Any:
    import re2  # slow import

    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MOST_MEMORY
    try:
        return re2.compile(f"(?{flags}){pattern}" if flags else pattern, options)
    except re2.error as error:
        reason = error.args[0].decode("utf-8", "replace") if isinstance(error.args[0], bytes) else str(error)
        raise ValueError(f"the pattern is not a valid RE2 expression: {reason}") from None


def _parts(replacement: str, compiled: Any) -> list[str | int]:
    """The replacement as literals and group numbers; raises `ValueError` for an unknown group."""
    parts: list[str | int] = []
    last = 0
    for found in _GROUP.finditer(replacement):
        number, name, backslash, _ = found.groups()
        parts.append(replacement[last : found.start()])
        last = found.end()
        if backslash:
            parts.append("\\")
            continue
        group = int(number or name) if (number or name or "").isdigit() else compiled.groupindex.get(name)
        if group is None or group > compiled.groups:
            raise ValueError(
                f'"{found[0]}" in `replacement` is not a group of the pattern; write "\\\\" for a backslash'
            )
        parts.append(group)
    return [*parts, replacement[last:]]


@action(
    effect=Effect.PURE,
    input=Input,
    output=Output,
    example_input={"text": "order-17 of Ann", "pattern": "order-(?P<number>[0-9]+)"},
    example_output={
        "matched": True,
        "match": {"text": "order-17", "start": 0, "end": 8, "groups": ["17"], "named": {"number": "17"}},
        "matches": [],
        "count": 1,
        "text": None,
    },
    idempotent=True,
    tags=("text",),
)
async def regex(input: Input, ctx: Context) -> Output:
    """Runs the operation in a thread if the text is long."""
    size = input.compiled().programsize
    if size * len(input.text) > _MOST_STEPS:
        raise refuse(f"The pattern is too large for a text of {len(input.text)} characters", "pattern")
    return await run_in_thread(
        lambda stop: _OPERATIONS[input.operation](input, stop), len(input.text) * (1 + size // 100)
    )


def _found(input: Input, stop: threading.Event) -> Iterator[Any]:
    work = 0
    for number, found in enumerate(input.compiled().finditer(input.text)):
        work += len(input.text) - found.start()
        if stop.is_set():
            return
        if number == input.max_matches:
            raise refuse(f"There are more than {input.max_matches} matches (maxMatches)", "text")
        if work > _MOST_WORK:
            raise refuse(f"There are too many matches for a text of {len(input.text)} characters; split it", "text")
        yield found


def _match(found: Any) -> Match:
    return Match(
        text=found.group(), start=found.start(), end=found.end(), groups=list(found.groups()), named=found.groupdict()
    )


def _test(input: Input, stop: threading.Event) -> Output:
    return Output(matched=input.compiled().search(input.text) is not None)


def _first(input: Input, stop: threading.Event) -> Output:
    found = input.compiled().search(input.text)
    return Output(matched=False) if found is None else Output(matched=True, match=_match(found), count=1)


def _all(input: Input, stop: threading.Event) -> Output:
    matches = [_match(found) for found in _found(input, stop)]
    return Output(matched=bool(matches), match=next(iter(matches), None), matches=matches, count=len(matches))


def _replace(input: Input, stop: threading.Event) -> Output:
    try:
        parts = _parts(input.replacement or "", input.compiled())
    except ValueError as error:
        raise refuse(str(error), "replacement") from None
    pieces: list[str] = []
    last = size = count = 0
    for found in _found(input, stop):
        piece = "".join(part if isinstance(part, str) else found.group(part) or "" for part in parts)
        pieces += input.text[last : found.start()], piece
        last, count = found.end(), count + 1
        size += len(pieces[-1]) + len(pieces[-2])
        if size > _MOST_CHARS:
            raise refuse(f"The text after the replacement is longer than {_MOST_CHARS} characters", "replacement")
    return Output(matched=count > 0, count=count, text="".join(pieces) + input.text[last:])


_OPERATIONS: Final[dict[str, Callable[[Input, threading.Event], Output]]] = {
    "test": _test,
    "match": _first,
    "all": _all,
    "replace": _replace,
}
