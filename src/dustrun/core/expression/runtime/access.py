"""Member, index and root access; the only place that reports "missing"."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

from dustrun.core.expression.runtime.fault import Fault, suggest
from dustrun.core.expression.runtime.frame import Frame
from dustrun.core.expression.runtime.values import Lazy, key_text, kind, map_key

Text = Callable[[], str]


def take_root(frame: Frame, name: str, at: int) -> Any:
    """The value of a root."""
    try:
        return frame.roots.root(name)
    except KeyError:
        what = "root" if name.startswith("$") else "node, root or loop variable"
        raise Fault("missing", f'"{name}" is missing: there is no such {what} here', path=name, offset=at) from None


def take(value: Any, key: Any, whole: Text, before: Text, at: int) -> Any:
    """`value[key]`; `whole` and `before` return the path's text with and without this step."""
    if isinstance(value, Lazy):
        return _take_lazy(value, key, whole, before, at)
    if isinstance(value, dict):
        mapped = map_key(key)
        if mapped is not None and mapped in value:
            return value[mapped]
        keys = [key_text(known) for known in value]
        raise missing(whole, before, key, keys, at)
    if isinstance(value, list):
        return _take_item(value, key, whole, before, at)
    if value is None:
        raise Fault("missing", f"{whole()} is missing: {before()} is null", path=whole(), offset=at)
    raise Fault("missing", f"{whole()} is missing: {before()} is a {kind(value)}", path=whole(), offset=at)


def _take_lazy(value: Lazy, key: Any, whole: Text, before: Text, at: int) -> Any:
    if isinstance(key, str):
        try:
            return value.get(key)
        except KeyError:
            pass
    raise missing(whole, before, key, value.keys(), at)


def _take_item(value: list[Any], key: Any, whole: Text, before: Text, at: int) -> Any:
    if isinstance(key, str):
        message = f"{whole()} is missing: {before()} is a list; use an index, or map()"
        raise Fault("missing", message, path=whole(), offset=at)
    if isinstance(key, bool) or not isinstance(key, int | Decimal) or key != int(key):
        raise Fault("type", f"an index of {before()} must be a whole number, not a {kind(key)}", offset=at)
    if not 0 <= key < len(value):
        message = f"{whole()} is missing: {before()} has {len(value)} items, counted from 0"
        raise Fault("missing", message, path=whole(), offset=at)
    return value[int(key)]


def missing(whole: Text, before: Text, key: Any, keys: Iterable[str], at: int) -> Fault:
    """The fault of a missing map key; similar names are computed only if the message is read."""
    path = whole()
    hint = (lambda: suggest(key, keys)) if isinstance(key, str) else None
    return Fault("missing", f"{path} is missing: {before()} has no such key", path=path, offset=at, hint=hint)
