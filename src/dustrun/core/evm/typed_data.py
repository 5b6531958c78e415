"""EIP-712 typed data: computes the digest to sign, for unambiguous documents only.

Stricter than the standard: a struct must have exactly the fields of its type, numbers must fit their type, and
fixed-size bytes must have exactly that size. So everything that is signed is visible in the document, and every
implementation computes the same digest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from dustrun.core.values.addresses import keccak256, read_address
from dustrun.errors import Invalid, Problem

_DOMAIN: Final = "EIP712Domain"
_DOMAIN_FIELDS: Final = {
    "name": "string",
    "version": "string",
    "chainId": "uint256",
    "verifyingContract": "address",
    "salt": "bytes32",
}
_NAME: Final = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")
_ARRAY: Final = re.compile(r"(.+)\[([0-9]{0,6})\]")
_NUMBER: Final = re.compile(r"(u?)int([0-9]{1,3})")
_BYTES: Final = re.compile(r"bytes([0-9]{1,2})")
_DIGITS: Final = re.compile(r"-?[0-9]{1,78}|0x[0-9a-fA-F]{1,64}")
_DEEPEST: Final = 32
_MOST_TYPES: Final = 100

Field = tuple[str, str]
Types = Mapping[str, tuple[Field, ...]]


def digest_of(document: Mapping[str, Any]) -> bytes:
    """The 32-byte digest to sign; raises `Invalid` with the path of every invalid field."""
    types = _read_types(_object(document, "types"))
    primary = document.get("primaryType")
    if primary not in types or primary == _DOMAIN:
        names = ", ".join(f'"{name}"' for name in types if name != _DOMAIN)
        raise _invalid("primaryType", f"must be one of the types: {names}")
    domain = _object(document, "domain")
    types = {**types, _DOMAIN: _domain_type(types, domain)}
    hashing = _Hashing(types)
    separator = hashing.struct(_DOMAIN, domain, "domain", 0)
    return keccak256(b"\x19\x01" + separator + hashing.struct(primary, _object(document, "message"), "message", 0))


def written_type(document: Mapping[str, Any]) -> str:
    """The `encodeType` string of a valid document's primary type: `Permit(address owner,…)`."""
    return _Hashing(_read_types(_object(document, "types"))).written(document["primaryType"])


class _Hashing:
    """Hashes values of one set of types."""

    def __init__(self, types: Types) -> None:
        self._types = types
        self._type_hashes: dict[str, bytes] = {}

    def struct(self, name: str, value: Any, at: str, depth: int) -> bytes:
        """`hashStruct` of EIP-712."""
        fields = self._types[name]
        if not isinstance(value, Mapping):
            raise _invalid(at, f"must be an object of type {name}")
        missing = [field for _, field in fields if field not in value]
        if missing:
            raise _invalid(f"{at}.{missing[0]}", f"is missing: type {name} requires it")
        names = {field for _, field in fields}
        beyond = [str(key) for key in value if key not in names]
        if beyond:
            raise _invalid(f"{at}.{beyond[0]}", f"is not a field of type {name}, so it would not be signed")
        words = [self._type_hash(name)]
        words += [self._word(kind, value[field], f"{at}.{field}", depth + 1) for kind, field in fields]
        return keccak256(b"".join(words))

    def written(self, name: str) -> str:
        """`encodeType` of EIP-712: the type, then the types it references, sorted by name."""
        others = sorted(self._reached(name, set()) - {name})
        return "".join(_written(each, self._types[each]) for each in (name, *others))

    def _type_hash(self, name: str) -> bytes:
        found = self._type_hashes.get(name)
        if found is None:
            found = self._type_hashes[name] = keccak256(self.written(name).encode())
        return found

    def _reached(self, name: str, seen: set[str]) -> set[str]:
        seen.add(name)
        for kind, _ in self._types[name]:
            core = kind.partition("[")[0]
            if core in self._types and core not in seen:
                self._reached(core, seen)
        return seen

    def _word(self, kind: str, value: Any, at: str, depth: int) -> bytes:
        """`encodeData` of one member: its 32-byte word."""
        if depth > _DEEPEST:
            raise _invalid(at, f"is nested deeper than {_DEEPEST} levels")
        array = _ARRAY.fullmatch(kind)
        if array is not None:
            return self._array(array[1], array[2], value, at, depth)
        if kind in self._types:
            return self.struct(kind, value, at, depth)
        return _READ[_family(kind) or kind](kind, value, at)

    def _array(self, kind: str, length: str, value: Any, at: str, depth: int) -> bytes:
        if not isinstance(value, list) or (length and len(value) != int(length)):
            raise _invalid(at, f"must be a list of {length + ' ' if length else ''}{kind}")
        words = [self._word(kind, item, f"{at}[{index}]", depth + 1) for index, item in enumerate(value)]
        return keccak256(b"".join(words))


def _read_types(given: Mapping[str, Any]) -> dict[str, tuple[Field, ...]]:
    if len(given) > _MOST_TYPES:
        raise _invalid("types", f"may define at most {_MOST_TYPES} types")
    types = {str(name): _read_fields(str(name), fields) for name, fields in given.items()}
    for name, fields in types.items():
        for index, (kind, _) in enumerate(fields):
            core = kind
            while (array := _ARRAY.fullmatch(core)) is not None:
                core = array[1]
            if core not in types and _family(core) is None:
                raise _invalid(
                    f"types.{name}[{index}].type",
                    (f'"{kind}" is neither a Solidity type nor one of the types defined here'),
                )
    return types


def _read_fields(name: str, given: Any) -> tuple[Field, ...]:
    at = f"types.{name}"
    if _NAME.fullmatch(name) is None or _family(name) is not None:
        raise _invalid(at, "is not a valid type name: use letters, digits and _, and no Solidity type")
    if not isinstance(given, list):
        raise _invalid(at, "must be a list of fields, each with a name and a type")
    fields: list[Field] = []
    for index, field in enumerate(given):
        kind, field_name = (field.get("type"), field.get("name")) if isinstance(field, Mapping) else (None, None)
        if not isinstance(kind, str) or not isinstance(field_name, str) or _NAME.fullmatch(field_name) is None:
            raise _invalid(f"{at}[{index}]", "must have a name and a type")
        fields.append((kind, field_name))
    if len({field_name for _, field_name in fields}) != len(fields):
        raise _invalid(at, "declares a field twice")
    return tuple(fields)


def _domain_type(types: Types, domain: Mapping[str, Any]) -> tuple[Field, ...]:
    """The domain's type: the domain's fields in the order of the standard; if the document defines it, it must be
    equal.
    """
    unknown = [str(key) for key in domain if key not in _DOMAIN_FIELDS]
    if unknown:
        raise _invalid(f"domain.{unknown[0]}", f"is not a domain field; the fields are {', '.join(_DOMAIN_FIELDS)}")
    expected = tuple((kind, field) for field, kind in _DOMAIN_FIELDS.items() if field in domain)
    if types.get(_DOMAIN, expected) != expected:
        listed = ", ".join(f"{kind} {field}" for kind, field in expected)
        raise _invalid(f"types.{_DOMAIN}", f"must list exactly the domain's fields, in this order: {listed}")
    return expected


def _written(name: str, fields: tuple[Field, ...]) -> str:
    return f"{name}({','.join(f'{kind} {field}' for kind, field in fields)})"


def _family(kind: str) -> str | None:
    """The encoder of an elementary Solidity type; None for any other type."""
    if kind in ("address", "bool", "string", "bytes"):
        return kind
    number, fixed = _NUMBER.fullmatch(kind), _BYTES.fullmatch(kind)
    if number is not None and number[2][0] != "0" and int(number[2]) <= 256 and int(number[2]) % 8 == 0:
        return "number"
    if fixed is not None and fixed[1][0] != "0" and int(fixed[1]) <= 32:
        return "fixed"
    return None


def _read_number(kind: str, value: Any, at: str) -> bytes:
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        value = int(value, 16) if value.startswith("0x") else int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise _invalid(at, "must be an integer, or a string of decimal digits or 0x-hex")
    bits = int(kind.removeprefix("u")[3:])
    least, most = (0, (1 << bits) - 1) if kind.startswith("u") else (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    if not least <= value <= most:
        raise _invalid(at, f"is out of range for {kind}")
    return value.to_bytes(32, "big", signed=value < 0)


def _read_hex(kind: str, value: Any, at: str) -> bytes:
    if not isinstance(value, str) or re.fullmatch(r"0x(?:[0-9a-fA-F]{2})*", value) is None:
        raise _invalid(at, f"must be {kind}: 0x followed by an even number of hexadecimal digits")
    return bytes.fromhex(value[2:])


def _read_fixed(kind: str, value: Any, at: str) -> bytes:
    data, size = _read_hex(kind, value, at), int(kind[5:])
    if len(data) != size:
        raise _invalid(at, f"must have exactly {size} bytes; it has {len(data)}")
    return data.ljust(32, b"\0")


def _read_address(_kind: str, value: Any, at: str) -> bytes:
    try:
        return bytes.fromhex(read_address(value)[2:]).rjust(32, b"\0")
    except ValueError as error:
        raise _invalid(at, str(error)) from None


def _read_bool(_kind: str, value: Any, at: str) -> bytes:
    if not isinstance(value, bool):
        raise _invalid(at, "must be true or false")
    return int(value).to_bytes(32, "big")


def _read_string(_kind: str, value: Any, at: str) -> bytes:
    if not isinstance(value, str):
        raise _invalid(at, "must be a string")
    try:
        return keccak256(value.encode())
    except UnicodeEncodeError:
        raise _invalid(at, "contains a lone surrogate, which has no UTF-8 encoding") from None


def _read_bytes(kind: str, value: Any, at: str) -> bytes:
    return keccak256(_read_hex(kind, value, at))


_READ: Final = {
    "address": _read_address,
    "bool": _read_bool,
    "string": _read_string,
    "bytes": _read_bytes,
    "number": _read_number,
    "fixed": _read_fixed,
}


def _object(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = document.get(name)
    if not isinstance(found, Mapping):
        raise _invalid(name, "must be an object")
    return found


def _invalid(field: str, message: str) -> Invalid:
    return Invalid("The typed data cannot be signed.", details=[Problem(field, message)])
