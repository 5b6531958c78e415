"""Structured logs: one JSON object per line (or readable text), with secrets masked."""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import logging
import re
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, Final, TextIO

import orjson

from dustrun import clock

DEBUG: Final = 10
INFO: Final = 20
WARNING: Final = 30
ERROR: Final = 40
_LEVELS: Final = {"debug": DEBUG, "info": INFO, "warning": WARNING, "error": ERROR}
_NAMES: Final = {number: name for name, number in _LEVELS.items()}
_MASK = "***"
NAMES_OF_SECRETS: Final = "authorization|cookie|secret|password|passphrase|api[_-]?key|private[_-]?key|mnemonic"
"""Names under which secrets stand: the one list for logs, where they count anywhere in a name, and for what
`core/text/secret_rules.py` and the validator look at, where they count at its end. A regular expression, written in
what Python and JavaScript share, without regard to case."""
_SECRET_NAMES = re.compile(f"({NAMES_OF_SECRETS}|token)", re.I)
_PARTS_OF_SECRET_NAMES: Final = (
    "authorization",
    "token",
    "secret",
    "password",
    "passphrase",
    "cookie",
    "key",
    "mnemonic",
)
"""Each name that `_SECRET_NAMES` matches contains one of them."""
_SECRET_SHAPES = re.compile(r"\b(sk|st|whsec)_[A-Za-z0-9]{20,}\b")
LINK: Final = "dlk_"
"""How a token of a link that resumes a run begins."""
_LINK_TOKEN = re.compile(r"dlk_[0-9a-f]{64}")
_TOKEN_NAME = re.compile(
    r"((from|to|in|out|input|output|buy|sell|fee|gas|base|quote)[_-]?)?tokens?([_-]?(in|out|address|id|[ab01]))?", re.I
)
_ASSET = re.compile(r"0x[0-9a-fA-F]{40}|native|[A-Z][A-Z0-9.]{1,10}|[0-9]{1,6}|\{\{(?:(?!\{\{|\}\}).)*\}\}", re.DOTALL)
_SECRET_QUERY = re.compile(r"(?i)\b(token|secret|signature|sig)=(?!0x[0-9a-f]{40}\b)[^&\s\"']+")
_PARTS_OF_SHAPES: Final = (LINK, "sk_", "st_", "whsec_")
_PARTS_OF_SECRETS: Final = (*_PARTS_OF_SHAPES, "=")
"""Each text that `mask_text` changes contains one of them."""
_PARTS_OF_LOWER: Final = (*_PARTS_OF_SECRET_NAMES, "signature=", "sig=")
_EQUAL_TO_ASCII: Final = "\u0130\u0131\u017f\u212a"
"""What a pattern that ignores case takes for one of the letters i, s and k."""
_SIMPLE: Final = frozenset({str, int, float, bool, type(None)})
_DELAY_S: Final = 0.02
_MOST_QUEUED: Final = 10_000
_CLOSING_S: Final = 1.0
_TELL_EVERY_S: Final = 60.0
_CALM_S: Final = 5.0


def mask_text(text: str) -> str:
    """Masks API keys, stream tokens, resume-link tokens and secret query parameters in a text."""
    text = mask_links(_SECRET_SHAPES.sub(lambda found: f"{found.group(1)}_{_MASK}", text))
    return _SECRET_QUERY.sub(lambda found: f"{found.group(1)}={_MASK}", text)


def mask_links(text: str) -> str:
    """Masks the tokens of links that resume a run, also inside JSON or percent-encoded text."""
    return _LINK_TOKEN.sub(f"{LINK}{_MASK}", text) if LINK in text else text


def mask_value(value: Any) -> Any:
    """Masks everything in a JSON value whose field name or format suggests a secret."""
    return _mask_value("", value)


def may_hold_secret(text: str) -> bool:
    """Whether `mask_value` might change a value whose JSON is `text`; quick, and true in doubt."""
    if not text.isascii() and any(letter in text for letter in _EQUAL_TO_ASCII):
        return True
    lower = text.lower()
    return any(part in lower for part in _PARTS_OF_LOWER) or any(part in text for part in _PARTS_OF_SHAPES)


def _mask_entry(entry: dict[str, Any]) -> dict[str, Any]:
    """Masks a line's values. Checks all its texts at once first, because hardly any line contains a secret."""
    if _hidden.get() is None and _is_simple(entry) and not any(map(_is_secret_name, entry)):
        texts = [value for value in entry.values() if type(value) is str]
        if not _may_hold_secret("\n".join(texts)):
            return entry
    return {name: _mask_value(name, value) for name, value in entry.items()}


def _is_simple(entry: Mapping[str, Any]) -> bool:
    """Whether all values are texts, numbers, booleans or None, and of no subclass."""
    return _SIMPLE.issuperset(map(type, entry.values()))


def _may_hold_secret(text: str) -> bool:
    return any(part in text for part in _PARTS_OF_SECRETS)


@functools.lru_cache(maxsize=4096)
def _is_secret_name(name: str) -> bool:
    return _SECRET_NAMES.search(name) is not None


def _mask_value(name: str, value: Any) -> Any:
    if _is_secret_name(name) and not _is_asset(name, value):
        return _MASK
    if isinstance(value, str):
        hide = _hidden.get()
        return mask_text(value) if hide is None else mask_text(hide(value))
    if isinstance(value, dict):
        return {key: _mask_value(str(key), item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_mask_value("", item) for item in value]
    return value


def _is_asset(name: str, value: Any) -> bool:
    """Whether a field like `token` or `tokenIn` names an asset: its value is an address, a symbol, a short number or
    one expression."""
    if _TOKEN_NAME.fullmatch(name) is None:
        return False
    items = value if isinstance(value, list | tuple) else [value]
    return all(
        item is None or (isinstance(item, str | int) and _ASSET.fullmatch(str(item)) is not None) for item in items
    )


_bound: ContextVar[dict[str, Any]] = ContextVar("log", default={})  # noqa: B039 - never mutated


def bind(**values: Any) -> None:
    """Adds values (request id, organisation, run, node) to every line logged by this task and the tasks it starts.

    All values share one context variable: every request and every run binds some, so binding must be cheap.
    """
    _bound.set({**_bound.get(), **values})


@contextlib.contextmanager
def scope() -> Iterator[None]:
    """Context manager: values that this task binds inside are unbound afterwards. For tasks that handle one thing after
    another."""
    token = _bound.set(_bound.get())
    try:
        yield
    finally:
        _bound.reset(token)


_hidden: ContextVar[Callable[[str], str] | None] = ContextVar("hidden", default=None)


class hiding:
    """Context manager: passes every text that this task logs through `hide`.

    A class because every node attempt enters it, and `@contextmanager` costs three times as much."""

    __slots__ = ("_hide", "_token")

    def __init__(self, hide: Callable[[str], str]) -> None:
        self._hide = hide

    def __enter__(self) -> None:
        self._token = _hidden.set(self._hide)

    def __exit__(self, *_error: object) -> None:
        _hidden.reset(self._token)


class _Output:
    """The log's stream and level. A failed write is ignored: a full log disk must not fail the work being logged.

    A thread writes lines below `WARNING` together, `_DELAY_S` after the first: one system call for many requests.
    Warnings and errors are written at once, after the lines before them.
    """

    def __init__(self, stream: TextIO, *, as_json: bool, least: int) -> None:
        self.least = least
        self._stream = stream
        self._render = _as_json if as_json else _as_text
        self._lock = threading.Lock()
        self._queue: deque[str] = deque()
        self._has_lines = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def write(self, level: int, entry: Mapping[str, Any]) -> None:
        """Writes one line; drops it if the stream fails."""
        self._queue.append(self._render(entry) + "\n")
        if level >= WARNING or self._closing.is_set() or len(self._queue) >= _MOST_QUEUED:
            self.flush()
        elif not self._has_lines.is_set():
            self._has_lines.set()
            self._start()

    def flush(self) -> None:
        """Writes the queued lines."""
        with self._lock, contextlib.suppress(OSError, ValueError):
            lines = [self._queue.popleft() for _ in range(len(self._queue))]
            if lines:  # another thread may have written them
                self._stream.write("".join(lines))
                self._stream.flush()

    def close(self) -> None:
        """Writes the queued lines and ends the thread; later lines are written at once."""
        self._closing.set()
        self._has_lines.set()
        if self._thread is not None:
            self._thread.join(_CLOSING_S)
        if self._thread is None or not self._thread.is_alive():  # else the stream takes nothing
            self.flush()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._write_queued, name="log", daemon=True)
                self._thread.start()

    def _write_queued(self) -> None:
        while not self._closing.is_set():
            self._has_lines.wait()
            self._closing.wait(_DELAY_S)
            self._has_lines.clear()  # before the lines are taken, so that one that comes now is announced again
            self.flush()


def shown(value: Any) -> str:
    """The masked `repr` of a value that JSON cannot hold."""
    masked: str = _mask_value("", repr(value))
    return masked


def _as_json(entry: Mapping[str, Any]) -> str:
    """JSON in ASCII: other characters could split the line or steer a terminal.

    Only simple values go to orjson, which would write an unmasked dataclass or enum instead of asking `shown`."""
    if _is_simple(entry):
        with contextlib.suppress(TypeError):  # an integer above 64 bits, a lone surrogate
            line = orjson.dumps(entry)
            if line.isascii():
                return line.decode()
    return json.dumps(entry, default=shown)


def _as_text(entry: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in entry.items() if name not in ("timestamp", "level", "event", "exception")}
    pairs = " ".join(f"{name}={value if isinstance(value, str) else shown(value)}" for name, value in rest.items())
    line = f"{entry['timestamp']} [{entry['level']:<7}] {entry['event']:<30} {pairs}".rstrip()
    return f"{line}\n{entry['exception']}" if "exception" in entry else line


_output = _Output(sys.stderr, as_json=False, least=INFO)
_receiver: Callable[[int, Mapping[str, Any]], None] | None = None
atexit.register(lambda: _output.close())


def set_up(*, as_json: bool, level: str = "info", stream: TextIO | None = None) -> None:
    """Configures logging to `stream`, by default standard error, including what libraries log; called once, by the
    composition root."""
    global _output
    _output.close()
    _output = _Output(stream or sys.stderr, as_json=as_json, least=_LEVELS[level])
    root = logging.getLogger()
    if not any(isinstance(handler, _LibraryHandler) for handler in root.handlers):
        root.addHandler(_LibraryHandler(logging.WARNING))


def send_to(receiver: Callable[[int, Mapping[str, Any]], None] | None) -> None:
    """Gives each line, masked, to a receiver too, with its level; None ends that. It must neither wait nor fail."""
    global _receiver
    _receiver = receiver


class _LibraryHandler(logging.Handler):
    """Writes the warnings and errors that libraries log in our format, masked."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one record."""
        try:
            error = record.exc_info[1] if record.exc_info else None
            level = ERROR if record.levelno >= logging.ERROR else WARNING
            get(record.name).log(level, record.getMessage(), **({} if error is None else {"exc_info": error}))
        except Exception:
            self.handleError(record)


class Logger:
    """Logs for one module: an event in plain words plus named values; `exc_info` is an exception to print."""

    __slots__ = ("_module",)

    def __init__(self, module: str) -> None:
        self._module = module

    def is_enabled_for(self, level: int) -> bool:
        """Whether lines of this level are written."""
        return level >= _output.least

    def debug(self, event: str, **values: Any) -> None:
        """Logs a detail for debugging."""
        self._log(DEBUG, event, values)

    def info(self, event: str, **values: Any) -> None:
        """Logs a normal event."""
        self._log(INFO, event, values)

    def warning(self, event: str, **values: Any) -> None:
        """Logs a failure that Dustrun recovers from by itself."""
        self._log(WARNING, event, values)

    def error(self, event: str, **values: Any) -> None:
        """Logs a failure that an operator should look at."""
        self._log(ERROR, event, values)

    def log(self, level: int, event: str, **values: Any) -> None:
        """Logs at the given level."""
        self._log(level, event, values)

    def failed(self, event: str, error: Exception, **values: Any) -> None:
        """Logs what failed and is tried again: an error of ours by its message, any other by where it came from."""
        message = getattr(error, "message", None)
        if message is None or _is_told(error):
            self.error(event, **values, exc_info=error)
        else:
            self.warning(event, **values, error=message)

    def _log(self, level: int, event: str, values: dict[str, Any]) -> None:
        if "exc_info" in values and _is_told(values["exc_info"]):
            level = DEBUG
        if level < _output.least:
            return
        entry = {**_bound.get(), "module": self._module, **values}
        entry |= {"event": event, "level": _NAMES[level], "timestamp": clock.to_rfc3339(clock.now_ms())}
        error = entry.pop("exc_info", None)
        if error is not None:
            entry["exception"] = "".join(traceback.format_exception(error)).rstrip()
        entry = _mask_entry(entry)
        _output.write(level, entry)
        if _receiver is not None:
            _receiver(level, entry)


def get(name: str) -> Logger:
    """The logger of a module."""
    return Logger(name)


def _is_told(error: object) -> bool:
    """Whether a `Trouble` tells of it."""
    return getattr(error, "is_told", False) is True


class Trouble:
    """A trouble that many things fail by, again and again: told when it begins, once a minute how often since, and when
    it is over. Threads may call it."""

    def __init__(self, logger: Logger, level: int, event: str) -> None:
        self._logger, self._level, self._event = logger, level, event
        self._lock = threading.Lock()
        self.failing: set[str] = set()
        """The sides that are not well: read it before `end`, which is asked after all that goes well."""

        self._began_s = self._told_s = self._met_s = 0.0
        self._failures = 0

    def meet(self, error: object, side: str = "") -> None:
        """Something failed by it. `side`: of what can fail and be well apart, as reads and writes; it is over when all
        are well."""
        now_s = clock.monotonic_s()
        with self._lock:
            is_new = not self.failing
            self.failing.add(side)
            self._met_s = now_s
            if is_new:
                self._began_s, self._failures = now_s, 0
            self._failures += 1
            if not is_new and now_s - self._told_s < _TELL_EVERY_S:
                return
            self._told_s = now_s
            lasts = {} if is_new else self._figures(now_s)
        self._logger.log(self._level, self._event, **lasts, error=str(error))

    def end(self, side: str = "") -> None:
        """A side is well. Told only after some seconds without a failure: what fails now and then is one trouble."""
        if side not in self.failing:
            return
        now_s = clock.monotonic_s()
        with self._lock:
            if now_s - self._met_s < _CALM_S or side not in self.failing:
                return
            self.failing.discard(side)
            if self.failing:
                return
            lasted = self._figures(now_s)
        self._logger.info(f"{self._event}: over", **lasted)

    def _figures(self, now_s: float) -> dict[str, Any]:
        return {"since_s": round(now_s - self._began_s), "failures": self._failures}
