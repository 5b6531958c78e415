"""Structured logs: one JSON object a line (or readable text on a terminal), with secrets masked."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, Final, TextIO

from dustrun import clock

DEBUG: Final = 10
INFO: Final = 20
WARNING: Final = 30
ERROR: Final = 40
_LEVELS: Final = {"debug": DEBUG, "info": INFO, "warning": WARNING, "error": ERROR}
_NAMES: Final = {number: name for name, number in _LEVELS.items()}
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


_bound: ContextVar[dict[str, Any]] = ContextVar("log", default={})  # noqa: B039 - it is never changed in place


def bind(**values: Any) -> None:
    """Puts values (request id, organisation, run, node) on every line that this task and those it begins will log.

    One variable for all of them: binding is done for every request and every run, so it must cost next to nothing.
    """
    _bound.set({**_bound.get(), **values})


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


class _Output:
    """Where lines go, and which. Writing never fails: a full disk behind the log must not fail what is being logged."""

    def __init__(self, stream: TextIO, *, as_json: bool, least: int) -> None:
        self.least = least
        self._stream = stream
        self._render = _as_json if as_json else _as_text
        self._lock = threading.Lock()

    def write(self, entry: Mapping[str, Any]) -> None:
        """Writes a line, or loses it."""
        line = self._render(entry) + "\n"
        with self._lock, contextlib.suppress(OSError, ValueError):
            self._stream.write(line)
            self._stream.flush()


def _shown(value: Any) -> str:
    """What is no JSON, as Python writes it."""
    masked: str = _mask_value("", repr(value))
    return masked


def _as_json(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry, default=_shown)


def _as_text(entry: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in entry.items() if name not in ("timestamp", "level", "event", "exception")}
    pairs = " ".join(f"{name}={value if isinstance(value, str) else _shown(value)}" for name, value in rest.items())
    line = f"{entry['timestamp']} [{entry['level']:<7}] {entry['event']:<30} {pairs}".rstrip()
    return f"{line}\n{entry['exception']}" if "exception" in entry else line


_output = _Output(sys.stderr, as_json=False, least=INFO)


def set_up(*, as_json: bool, level: str = "info") -> None:
    """Configures logging to standard error, once, from the composition root; also of what libraries log."""
    global _output
    _output = _Output(sys.stderr, as_json=as_json, least=_LEVELS[level])
    root = logging.getLogger()
    if not any(isinstance(handler, _OfLibraries) for handler in root.handlers):
        root.addHandler(_OfLibraries(logging.WARNING))


class _OfLibraries(logging.Handler):
    """Writes the warnings and errors of libraries as lines of ours, masked; else they would go out as they are."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one."""
        try:
            error = record.exc_info[1] if record.exc_info else None
            level = ERROR if record.levelno >= logging.ERROR else WARNING
            get(record.name).log(level, record.getMessage(), **({} if error is None else {"exc_info": error}))
        except Exception:
            self.handleError(record)


class Logger:
    """Logs for one module: an event in plain words, with values by name. `exc_info` is the exception to be shown."""

    __slots__ = ("_module",)

    def __init__(self, module: str) -> None:
        self._module = module

    def is_enabled_for(self, level: int) -> bool:
        """Whether lines of that level are written."""
        return level >= _output.least

    def debug(self, event: str, **values: Any) -> None:
        """What only who looks for a defect wants to know."""
        self._log(DEBUG, event, values)

    def info(self, event: str, **values: Any) -> None:
        """What happened."""
        self._log(INFO, event, values)

    def warning(self, event: str, **values: Any) -> None:
        """What went wrong and mends itself."""
        self._log(WARNING, event, values)

    def error(self, event: str, **values: Any) -> None:
        """What someone should look at."""
        self._log(ERROR, event, values)

    def log(self, level: int, event: str, **values: Any) -> None:
        """A line of that level."""
        self._log(level, event, values)

    def _log(self, level: int, event: str, values: dict[str, Any]) -> None:
        if level < _output.least:
            return
        entry = {**_bound.get(), "module": self._module, **values}
        entry |= {"event": event, "level": _NAMES[level], "timestamp": clock.to_rfc3339(clock.now_ms())}
        error = entry.pop("exc_info", None)
        if error is not None:
            entry["exception"] = "".join(traceback.format_exception(error)).rstrip()
        _output.write({name: _mask_value(name, value) for name, value in entry.items()})


def get(name: str) -> Logger:
    """A logger that names its module."""
    return Logger(name)
