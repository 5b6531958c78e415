"""Parses functions and events from human-readable signatures and from a compiler's JSON ABI."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from dustrun.core.evm.abi import AbiFault, Event, Function, Param
from dustrun.core.expression.fault import Fault
from dustrun.core.expression.functions import abi as codec
from dustrun.core.expression.functions.abi import AbiType

_NAME: Final = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")


@lru_cache(maxsize=1000)
def parse_function(text: str) -> Function:
    """Parses `transfer(address to, uint256 amount) returns (bool)`; raises `AbiFault`."""
    name, rest = _head(text, "function")
    inputs, rest = _list_in_front(rest)
    before, marker, behind = rest.partition("returns")
    words = before.split()
    mutability = next((word for word in words if word in ("view", "pure", "payable", "nonpayable")), None)
    outputs = parse_params(_list_in_front(behind)[0]) if marker else None
    return Function(name, parse_params(inputs), outputs, mutability)


@lru_cache(maxsize=1000)
def parse_event(text: str) -> Event:
    """Parses `Transfer(address indexed from, address indexed to, uint256 value)`; raises `AbiFault`."""
    name, rest = _head(text, "event")
    return Event(name, parse_params(_list_in_front(rest)[0]))


def _head(text: str, keyword: str) -> tuple[str, str]:
    text = re.sub(rf"^\s*{keyword}\s+", "", text).strip()
    found = _NAME.match(text)
    if found is None or not text[found.end() :].lstrip().startswith("("):
        raise AbiFault(
            f'"{text[:60]}" is not a signature; expected something like transfer(address to, uint256 amount)'
        )
    return found[0], text[found.end() :].lstrip()


def _list_in_front(text: str) -> tuple[str, str]:
    """Splits a text that starts with `(` into the content of that parenthesis and the rest."""
    level = 0
    text = text.strip()
    for place, character in enumerate(text):
        level += {"(": 1, ")": -1}.get(character, 0)
        if level == 0:
            if character != ")":
                break
            return text[1:place], text[place + 1 :].strip()
    raise AbiFault(f'the parentheses in "{text[:60]}" are not balanced')


def parse_params(text: str) -> tuple[Param, ...]:
    """Parses `address to, (uint256 id, bytes32 key)[] items`."""
    return tuple(_parse_param(part.strip()) for part in codec.split_types(text))


def _parse_param(text: str) -> Param:
    if text.startswith("tuple("):
        text = text.removeprefix("tuple")
    if not text.startswith("("):
        kind, *words = text.split() or [""]
        return Param(_name_of(words, text), _type(kind), (), "indexed" in words)
    inner, rest = _list_in_front(text)
    parts = parse_params(inner)
    suffix = re.match(r"(?:\[[0-9]*\])*", rest)
    assert suffix is not None
    words = rest[suffix.end() :].split()
    base = ",".join(part.type for part in parts)
    return Param(_name_of(words, text), _type(f"({base}){suffix[0]}"), parts, "indexed" in words)


def _name_of(words: list[str], text: str) -> str:
    names = [word for word in words if word not in ("indexed", "memory", "calldata", "storage", "payable")]
    if len(names) > 1 or not all(_NAME.fullmatch(name) for name in names):
        raise AbiFault(f'"{text[:60]}" is not a parameter; expected something like uint256 amount')
    return names[0] if names else ""


def _type(text: str) -> AbiType:
    try:
        return codec.read_type(text)
    except Fault as fault:
        raise AbiFault(fault.message) from None


def read_json_params(entries: Any) -> tuple[Param, ...]:
    """Parses the `inputs`, `outputs` or `components` of a JSON ABI."""
    if not isinstance(entries, list | tuple) or not all(isinstance(entry, Mapping) for entry in entries):
        raise AbiFault("the parameters of a JSON ABI must be a list of objects with a type")
    return tuple(_read_json_param(entry) for entry in entries)


def _read_json_param(entry: Mapping[str, Any]) -> Param:
    kind = entry.get("type")
    if not isinstance(kind, str):
        raise AbiFault("each parameter of a JSON ABI must have a type")
    parts: tuple[Param, ...] = ()
    if kind.startswith("tuple"):
        parts = read_json_params(entry.get("components"))
        kind = f"({','.join(part.type for part in parts)}){kind.removeprefix('tuple')}"
    return Param(str(entry.get("name") or ""), _type(kind), parts, entry.get("indexed") is True)


def read_json_function(entry: Mapping[str, Any]) -> Function:
    """Parses a JSON ABI entry of a function or the constructor."""
    name = entry.get("name", "") if entry.get("type", "function") != "constructor" else "constructor"
    outputs = read_json_params(entry["outputs"]) if "outputs" in entry else None
    return Function(str(name), read_json_params(entry.get("inputs", [])), outputs, entry.get("stateMutability"))


def read_json_event(entry: Mapping[str, Any]) -> Event:
    """Parses a JSON ABI entry of an event."""
    return Event(str(entry.get("name", "")), read_json_params(entry.get("inputs", [])))


def entries_of(abi: Any, kind: str) -> list[Mapping[str, Any]]:
    """The entries of one kind in a JSON ABI: a list, a single entry, or a compiler artifact with an `abi` key."""
    if isinstance(abi, Mapping):
        abi = abi.get("abi", [abi])
    if not isinstance(abi, list | tuple):
        raise AbiFault("must be a JSON ABI list")
    if any(not isinstance(entry, Mapping) for entry in abi):
        raise AbiFault("must be a list of objects, as a compiler emits it")
    return [entry for entry in abi if entry.get("type", "function") == kind]


def error_entry(text: str) -> dict[str, Any]:
    """The JSON ABI entry of an error such as `InsufficientBalance(address who, uint256 needed)`."""
    name, rest = _head(text, "error")
    inputs = parse_params(_list_in_front(rest)[0])
    if any(param.parts for param in inputs):
        raise AbiFault(f'the error "{name}" takes a tuple: declare it as a JSON ABI entry')
    return {"type": "error", "name": name, "inputs": [{"name": p.name, "type": p.type} for p in inputs]}
