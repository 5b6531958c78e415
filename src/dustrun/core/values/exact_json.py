"""JSON without floats: fractions become `Decimal`, integers are unbounded, in both directions.

RFC 8259 sets no precision for numbers; binary floats would lose money, so no float ever enters or leaves.
"""

from __future__ import annotations

import itertools
import json
import json.scanner
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import orjson

MAX_NUMBER_CHARS = 1000
MAX_EXPONENT = 1000
MAX_DEPTH = 100
_MAX_INTEGER_BITS = 3400  # slightly over 1000 digits; Python's own limit is 4300
_SAFE_INTEGER = 2**53 - 1
_MOST_AT_ONCE: Final = 250_000
"""Up to 80 ms of reading, if all keys differ."""
_MOST_EXPANDED: Final = 1_048_576
_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")
_PLAIN: Final = json.JSONEncoder(ensure_ascii=False, default=str)


class JsonError(ValueError):
    """The text is not acceptable JSON; the message says where and why."""


def _decimal(text: str) -> Decimal:
    """Parses a fraction. Its exponent must not stand for more digits than are accepted: `0e-9999999` has ten
    million.
    """
    if len(text) > MAX_NUMBER_CHARS:
        raise JsonError(f"a number has {len(text)} characters; at most {MAX_NUMBER_CHARS} are accepted")
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise _out_of_range(text) from None
    if "e" in text or "E" in text:
        if not -MAX_EXPONENT <= value.adjusted() <= MAX_EXPONENT:
            raise _out_of_range(text)
        digits = len(plain_digits(value))
        if digits > MAX_NUMBER_CHARS:
            raise _out_of_range(text)
        _expansion.left -= digits - len(text)
        if _expansion.left < 0:
            raise JsonError("its numbers with exponents stand for too many digits in all")
    return value


class _Expansion(threading.local):
    """How many more digits the numbers with exponents of a document may stand for than it has characters: `1e999` has
    five, and is kept and shown as a thousand."""

    left = 0


_expansion = _Expansion()


def _out_of_range(text: str) -> JsonError:
    return JsonError(f"the number {text[:40]!r} is out of range; it would have over {MAX_NUMBER_CHARS} digits")


def _is_short(value: Decimal) -> bool:
    """Whether its plain digits can be parsed again."""
    return -MAX_EXPONENT <= value.adjusted() <= MAX_EXPONENT and len(plain_digits(value)) <= MAX_NUMBER_CHARS


def _integer(text: str) -> int:
    if len(text) > MAX_NUMBER_CHARS:
        raise JsonError(f"a number has {len(text)} characters; at most {MAX_NUMBER_CHARS} are accepted")
    return int(text)


def _constant(name: str) -> Any:
    raise JsonError(f"{name} is not JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise JsonError(f"an object has the key {twice[:80]!r} twice")
    return found


def _slow(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """Up to Python 3.12 the scanner in Python takes digits of all scripts."""

    def checked(text: str) -> Any:
        if not text.isascii():
            raise JsonError(f"the number {text[:40]!r} has other digits than 0 to 9")
        return read(text)

    return checked


class _Decoder:
    """Decodes in C, or in Python what would keep other threads waiting: during a call into C none of them runs."""

    def __init__(self, **hooks: Any) -> None:
        numbers: dict[str, Any] = {"parse_float": _decimal, "parse_int": _integer, "parse_constant": _constant}
        self.at_once = json.JSONDecoder(**numbers, **hooks).decode
        slow = json.JSONDecoder(**{**numbers, "parse_float": _slow(_decimal), "parse_int": _slow(_integer)}, **hooks)
        slow.scan_once = json.scanner.py_make_scanner(slow)  # type: ignore[attr-defined]
        self._in_turns = slow.decode

    def decode_large(self, string: str) -> Any:
        """The value of a document of some length."""
        return (self._in_turns if _is_heavy(string) else self.at_once)(string)


def _is_heavy(string: str) -> bool:
    """Whether a document has more strings, lists and objects than C may read in one call. Numbers are read by Python
    anyway."""
    return string.count('"') // 2 + string.count("[") + string.count("{") > _MOST_AT_ONCE


_decoder, _decoder_unique = _Decoder(), _Decoder(object_pairs_hook=_unique)
_MARK: Final = "\ufeff"  # a byte order mark, which editors of Windows write


def loads(text: bytes | str) -> Any:
    """Decodes one untrusted JSON document exactly; raises `JsonError` for anything else."""
    return _checked(*_read(text, _decoder))


def loads_unique(text: bytes | str) -> Any:
    """Like `loads`, but rejects duplicate keys, since parsers differ on which of them counts."""
    return _checked(*_read(text, _decoder_unique))


def _checked(string: str, value: Any) -> Any:
    if string.count("[") + string.count("{") > MAX_DEPTH:
        refuse_deep(value)
    if _SURROGATE.search(string) is not None:
        _refuse_lone_surrogates(value, in_turns=_is_heavy(string))
    return value


def loads_own(text: bytes | str) -> Any:
    """Decodes what `dumps` wrote, at any depth: a result may contain a value that is as deep as `loads` allows."""
    return _read(text, _decoder)[1]


def loads_filled(text: str, values: Iterable[Any]) -> Any:
    """Decodes what `dumps` wrote with the next one of `values` for each NaN in it, which `dumps` never writes."""
    following = iter(values)
    _expansion.left = max(_MOST_EXPANDED, len(text))
    numbers: dict[str, Any] = {"parse_float": _decimal, "parse_int": _integer}
    return json.JSONDecoder(**numbers, parse_constant=lambda _: next(following)).decode(text)


def _read(text: bytes | str, decoder: _Decoder) -> tuple[str, Any]:
    try:
        string = text.decode("utf-8") if isinstance(text, bytes) else text
        if string[:1] == _MARK:
            string = string[1:]
        _expansion.left = max(_MOST_EXPANDED, len(string))
        decode = decoder.at_once if len(string) < _MOST_AT_ONCE else decoder.decode_large
        return string, decode(string)
    except JsonError:
        raise
    except json.JSONDecodeError as error:
        raise JsonError(f"{error.msg} at line {error.lineno}, column {error.colno}") from None
    except UnicodeDecodeError as error:
        raise JsonError(f"the text is not UTF-8 at byte {error.start}") from None
    except RecursionError:
        raise JsonError(f"nested deeper than {MAX_DEPTH} levels") from None


def _refuse_lone_surrogates(value: Any, *, in_turns: bool) -> None:
    r"""Rejects a lone `\ud800`: it decodes, but no UTF-8 store or reader can take it (RFC 8259 section 8.2)."""
    pieces = _PLAIN.iterencode(value) if in_turns else (_PLAIN.encode(value),)
    try:
        for piece in pieces:
            piece.encode("utf-8")
    except UnicodeEncodeError:
        raise JsonError("a string contains a lone surrogate") from None


def refuse_deep(value: Any) -> None:
    """Raises `JsonError` when lists and objects nest deeper than `MAX_DEPTH`."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(MAX_DEPTH):
        parts = (parent.values() if isinstance(parent, dict) else parent for parent in level)
        level = [item for items in parts for item in items if isinstance(item, (dict, list))]
    if level:
        raise JsonError(f"nested deeper than {MAX_DEPTH} levels")


def plain_digits(value: Decimal) -> str:
    """A decimal in plain digits, never in exponent notation."""
    return format(value, "f")


def _decimal_digits(value: Decimal) -> str:
    if not value.is_finite():
        raise TypeError("a non-finite number has no JSON form")
    if not _is_short(value):
        raise TypeError(f"a number of over {MAX_NUMBER_CHARS} digits could not be read again")
    return plain_digits(value)


def _integer_digits(value: int) -> str:
    if value.bit_length() > _MAX_INTEGER_BITS or len(str(value)) > MAX_NUMBER_CHARS:
        raise TypeError(f"a number of over {MAX_NUMBER_CHARS} digits could not be read again")
    return str(value)


def _default(value: Any) -> Any:
    if isinstance(value, Decimal):
        return orjson.Fragment(_decimal_digits(value))
    if isinstance(value, JsonText):
        return orjson.Fragment(bytes(value))
    raise TypeError(f"{type(value).__name__} has no JSON form")


class JsonText(bytes):
    """A value that is JSON already, for any encoder."""

    __slots__ = ()


_DIGITS_AS_ONE: Final = bytes(ord("0") if chr(byte).isdigit() and byte < 128 else ord(" ") for byte in range(256))
_BIG: Final = b"0" * 16


def is_wire(text: bytes) -> bool:
    """Whether what `dumps` wrote is for certain what `dumps_wire` would write: no integer in it is as long as one
    beyond 2^53. Quick, as large texts need it."""
    return _BIG not in text.translate(_DIGITS_AS_ONE)


def _wire_default(value: Any) -> Any:
    if isinstance(value, Decimal):
        digits = _decimal_digits(value)
        is_exact = "." in digits or abs(value) <= _SAFE_INTEGER
        return orjson.Fragment(digits) if is_exact else digits
    return _default(value)


def _big_as_digits(value: Any, limit: int, quote: bool) -> Any:
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        if -limit <= value <= limit:
            return value
        digits = _integer_digits(value)
        return digits if quote else orjson.Fragment(digits)
    if isinstance(value, dict):
        return {key: _big_as_digits(item, limit, quote) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_big_as_digits(item, limit, quote) for item in value]
    return value


def dumps(value: Any, *, canonical: bool = False) -> bytes:
    """Encodes for storage: compact, exact, big integers as numbers. `canonical` sorts keys.

    Raises `TypeError` for non-JSON values, and for numbers longer than `loads` accepts.
    """
    option = orjson.OPT_SORT_KEYS if canonical else None
    try:
        return orjson.dumps(value, default=_default, option=option)
    except TypeError:
        return orjson.dumps(_big_as_digits(value, 2**63 - 1, quote=False), default=_default, option=option)


def dumps_text(value: Any) -> str:
    """`dumps` as a string, the form in which JSON is stored."""
    try:
        return orjson.dumps(value, default=_default).decode()
    except TypeError:
        return dumps(value).decode()


def dumps_pretty(value: Any) -> str:
    """`dumps` with indentation, for people."""
    try:
        text = orjson.dumps(value, default=_default, option=orjson.OPT_INDENT_2)
    except TypeError:
        text = orjson.dumps(_big_as_digits(value, 2**63 - 1, quote=False), default=_default, option=orjson.OPT_INDENT_2)
    return text.decode() + "\n"


def dumps_wire(value: Any) -> bytes:
    """Encodes for a client: integers beyond 2^53 become strings, so that JavaScript reads them exactly."""
    try:
        return orjson.dumps(value, default=_wire_default, option=orjson.OPT_STRICT_INTEGER)
    except TypeError:
        return orjson.dumps(_big_as_digits(value, _SAFE_INTEGER, quote=True), default=_wire_default)


# How much work a value is, estimated in a time that does not depend on its size.


MOST: Final = 2000
"""Units that the event loop may handle at once: up to 20 ms of checking, shaping and encoding."""
_CHARS: Final = 64
_FEW: Final = 8
_WITHOUT_PARTS: Final = frozenset({int, float, bool, type(None)})


def is_large(value: Any, most: int = MOST) -> bool:
    """Whether a value has more than `most` units."""
    return weigh(value, most) > most


def weigh(value: Any, most: int = MOST) -> int:
    """The units of a value: one for each item of a list, object or record, and one for each 64 characters of text. It
    stops counting beyond `most`."""
    kind = type(value)
    if kind is dict:
        few = value
    elif kind is str or kind is bytes:
        return len(value) // _CHARS
    elif kind in _WITHOUT_PARTS or (kind is list and not value):
        return 0
    else:
        few = getattr(value, "__dict__", None)  # a record's fields, as a model of pydantic has
    if type(few) is dict and len(few) <= _FEW:
        units = _units_of_few(few)
        if units is not None:
            return units
    left = most
    seen = [value]
    for one in seen:  # which grows meanwhile, by what `left` allows
        kind = type(one)
        if kind is dict:
            left -= len(one)
            if left < 0:
                break
            seen += one.values()
        elif kind is str or kind is bytes:
            left -= len(one) // _CHARS
        elif kind is list:
            left -= len(one)
            if left < 0:
                break
            seen += one
        elif kind not in _WITHOUT_PARTS:
            parts, count = _parts(one)
            left -= count
            if left < 0:
                break
            seen += parts
    return most - left


def _units_of_few(value: dict[Any, Any], deeper: int = 2) -> int | None:
    """The units of a small object of plain values, and of such objects `deeper` levels below, which most are; None if
    it has others."""
    units = len(value)
    if _WITHOUT_PARTS.issuperset(map(type, value.values())):
        return units
    for part in value.values():
        kind = type(part)
        if kind is str:
            units += len(part) // _CHARS
        elif kind is dict and deeper and len(part) <= _FEW:
            below = _units_of_few(part, deeper - 1) if part else 0
            if below is None:
                return None
            units += below
        elif kind not in _WITHOUT_PARTS:
            return None
    return units


def _parts(value: Any) -> tuple[Iterable[Any], int]:
    """The parts of a container or record, and their number."""
    if isinstance(value, (list, tuple)):
        return value, len(value)
    if isinstance(value, dict):
        return value.values(), len(value)
    if isinstance(value, (str, bytes)):
        return (), len(value) // _CHARS
    fields = getattr(value, "__dict__", None)  # before what a model of pydantic would search for in vain
    if fields and isinstance(fields, dict):
        return list(fields.values()), len(fields)
    names = getattr(value, "__dataclass_fields__", None) or ()
    return [getattr(value, name, None) for name in names], len(names)


# Large values as JSON in pieces: one call into C that encodes megabytes keeps the interpreter from other threads.


_PIECE: Final = 20_000
"""Units of a value (`weight.is_large`) that are encoded at once, in about a millisecond."""
_SLICE: Final = 1_000


Encode = Callable[[Any], bytes]


def wire_pieces(value: Any, encode: Encode = dumps_wire) -> Iterator[bytes]:
    """The result of `encode` in pieces; no string is cut."""
    if not isinstance(value, dict | list | tuple) or not is_large(value, _PIECE):
        yield encode(value)
    elif isinstance(value, dict):
        yield from _joined(b"{", b"}", (_members(part, encode) for part in _slices(value)))
    else:
        slices = (value[first : first + _SLICE] for first in range(0, len(value), _SLICE))
        yield from _joined(b"[", b"]", (_items(part, encode) for part in slices))


def _slices(value: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    rest = iter(value.items())
    while part := dict(itertools.islice(rest, _SLICE)):
        yield part


def _members(part: dict[str, Any], encode: Encode) -> Iterator[bytes]:
    if not is_large(part, _PIECE):
        yield encode(part)[1:-1]
        return
    for number, (name, item) in enumerate(part.items()):
        yield (b"," if number else b"") + encode({name: 0})[1:-2]  # the name as it is encoded, and the colon
        yield from wire_pieces(item, encode)


def _items(part: Sequence[Any], encode: Encode) -> Iterator[bytes]:
    if not is_large(part, _PIECE):
        yield encode(part)[1:-1]
        return
    for number, item in enumerate(part):
        yield from (b",",) if number else ()
        yield from wire_pieces(item, encode)


def _joined(first: bytes, last: bytes, parts: Iterator[Iterator[bytes]]) -> Iterator[bytes]:
    yield first
    for number, part in enumerate(parts):
        yield from (b",",) if number else ()
        yield from part
    yield last
