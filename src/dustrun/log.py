"""Structured logs: one JSON object a line (or readable text on a terminal), with secrets masked."""

from __future__ import annotations

import contextlib
import logging
import re
import sys
from collections.abc import Callable, MutableMapping
from contextvars import ContextVar
from typing import Any, TextIO, cast

import structlog

_MASK = "***"
_SECRET_NAMES = re.compile(r"(authorization|token|secret|password|api[_-]?key|private[_-]?key|mnemonic)", re.I)
_SECRET_SHAPES = re.compile(r"\b(sk|st|whsec)_[A-Za-z0-9]{20,}\b")
_LINK = "dlk_"
_LINK_TOKEN = re.compile(r"dlk_[0-9a-f]{64}")
_SECRET_QUERY = re.compile(r"(?i)\b(token|secret|signature|sig)=[^&\s\"']+")


def mask_text(text: str) -> str:
    """The text with API keys, stream tokens and secret query parameters replaced."""
    text = mask_links(_SECRET_SHAPES.sub(lambda found: f"{found.group(1)}_{_MASK}", text))
    return _SECRET_QUERY.sub(lambda found: f"{found.group(1)}={_MASK}", text)


def mask_links(text: str) -> str:
    """The text without the tokens that let a link resume a run; also within JSON or percent-encoded."""
    return _LINK_TOKEN.sub(f"{_LINK}{_MASK}", text) if _LINK in text else text


def mask_value(value: Any) -> Any:
    """A JSON value with everything that looks like a secret replaced: by its key's name, or by its shape."""
    return _mask_value("", value)


def _mask_value(name: str, value: Any) -> Any:
    if _SECRET_NAMES.search(name):
        return _MASK
    if isinstance(value, str):
        hide = _hidden.get()
        return mask_text(value) if hide is None else mask_text(hide(value))
    if isinstance(value, dict):
        return {key: _mask_value(str(key), item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_mask_value("", item) for item in value]
    return value


def _mask(_logger: Any, _name: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {key: _mask_value(key, value) for key, value in entry.items()}


_bound: ContextVar[dict[str, Any]] = ContextVar("log", default={})  # noqa: B039 - it is never changed in place


def bind(**values: Any) -> None:
    """Puts values (request id, organisation, run, node) on every line that this task and those it begins will log.

    One variable for all of them: binding is done for every request and every run, so it must cost next to nothing.
    """
    _bound.set({**_bound.get(), **values})


def _merge(_logger: Any, _name: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {**_bound.get(), **entry}


_hidden: ContextVar[Callable[[str], str] | None] = ContextVar("hidden", default=None)


class hiding:
    """While it lasts, every text that this task logs goes through `hide` first. Every node enters it, so it is
    no generator, which would cost three times as much."""

    __slots__ = ("_hide", "_token")

    def __init__(self, hide: Callable[[str], str]) -> None:
        self._hide = hide

    def __enter__(self) -> None:
        self._token = _hidden.set(self._hide)

    def __exit__(self, *_error: object) -> None:
        _hidden.reset(self._token)


class _Patient:
    """A stream of text whose writing never fails: a full disk behind the log must not fail what is being logged."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes, or loses the line."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flushes, or leaves it for later."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


def set_up(*, as_json: bool, level: str = "info") -> None:
    """Configures structured logging to standard error, once, from the composition root."""
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    )
    structlog.configure(
        processors=[
            _merge,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _mask,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, _Patient(sys.stderr))),
        cache_logger_on_first_use=True,
    )


def get(name: str) -> Any:
    """A logger bound to its module's name."""
    return structlog.get_logger(module=name)
