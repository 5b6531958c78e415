"""`dataclass`, as the standard library has it, for much less memory.

The standard decorator writes and compiles six methods for each class. Most of them are the same in all classes, so here
all share one. A server has 600 such classes: it starts faster, and needs 5 MiB less.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields
from dataclasses import dataclass as _standard
from operator import attrgetter
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(made=None, /, *, frozen=False, eq=True, repr=True, order=False, unsafe_hash=False, **options):
        """`dataclasses.dataclass`; what compares, hashes, shows and freezes is the same function in all classes."""

        def make(cls: type) -> type:
            if order or unsafe_hash:
                return _standard(cls, frozen=frozen, eq=eq, repr=repr, order=order, unsafe_hash=unsafe_hash, **options)
            _share(cls, frozen=frozen, eq=eq, repr=repr)
            cls = _standard(cls, frozen=frozen, eq=False, repr=False, **options)
            if frozen:  # what it has made also keeps the class alive from which it makes one with slots
                cls.__setattr__, cls.__delattr__ = _refuse_to_set, _refuse_to_delete
            return cls

        return make if made is None else make(made)


_Values = Callable[[Any], Any]
_compared: dict[type, _Values] = {}
_hashed: dict[type, _Values] = {}


def _share(cls: type, *, frozen: bool, eq: bool, repr: bool) -> None:
    own, methods = cls.__dict__, dict[str, Any]()
    if not cls.__doc__:
        methods["__doc__"] = cls.__name__  # the standard decorator would write down its signature, which takes long
    if repr and "__repr__" not in own:
        methods["__repr__"] = _represent
    if eq and "__eq__" not in own:
        methods["__eq__"] = _equals
    if eq and own.get("__hash__") is None and ("__hash__" not in own or "__eq__" in own):
        methods["__hash__"] = _hash if frozen else None
    for name, method in methods.items():
        setattr(cls, name, method)


def _equals(self: Any, other: object) -> Any:
    cls = self.__class__
    if other.__class__ is not cls:
        return NotImplemented
    if self is other:
        return True
    values = _compared.get(cls) or _values_of(cls, _compared, [one.name for one in fields(self) if one.compare])
    return values(self) == values(other)


def _hash(self: Any) -> int:
    cls = self.__class__
    values = _hashed.get(cls)
    if values is None:
        names = [one.name for one in fields(self) if (one.compare if one.hash is None else one.hash)]
        values = _values_of(cls, _hashed, names)
    return hash(values(self))


def _values_of(cls: type, known: dict[type, _Values], names: list[str]) -> _Values:
    values: _Values = attrgetter(*names) if names else _nothing
    return known.setdefault(cls, values)


def _nothing(_: Any) -> tuple[()]:
    return ()


@recursive_repr()
def _represent(self: Any) -> str:
    shown = ", ".join(f"{one.name}={getattr(self, one.name)!r}" for one in fields(self) if one.repr)
    return f"{self.__class__.__qualname__}({shown})"


def _refuse_to_set(self: Any, name: str, value: Any) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(self: Any, name: str) -> None:
    raise FrozenInstanceError(f"cannot delete field {name!r}")
