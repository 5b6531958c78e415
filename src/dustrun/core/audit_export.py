"""The audit log as it leaves the server: lines of JSON that prove themselves, without the server.

Each line has the hash of the entry before it, the SHA-256 of that hash and its own content, and a signature over the
whole line. An export is one part or several that go on where the one before ended; a part is a `start`, its entries,
and an `end`. Entries of other organisations are one line `others`, with the hash of the last of them.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import field
from typing import Any, Final

import orjson

from dustrun.records import dataclass

FORMAT: Final = "dustrun-audit-1"
_SIGNED: Final = b"dustrun audit line\n"
_MOST_PROBLEMS: Final = 20
Sign = Callable[[bytes], bytes]
Json = dict[str, Any]


def link_hash(previous: str, content: Sequence[str | int]) -> str:
    """The hash of an entry: of the hash before it, organisation, key, time in milliseconds, action, subject, detail."""
    # PostgreSQL stores no NUL; a backup must verify in either database
    text = orjson.dumps([previous, *content]).replace(b"\\u0000", b"\xef\xbf\xbd")
    return hashlib.sha256(text).hexdigest()


def line_of(fields: Json, sign: Sign) -> str:
    """One line, with its signature."""
    signature = base64.b64encode(sign(_SIGNED + _canonical(fields))).decode()
    return _canonical({**fields, "signature": signature}).decode() + "\n"


def _canonical(fields: Json) -> bytes:
    return orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)


def fingerprint(public_key: str) -> str:
    """The fingerprint of a public key, for people to compare: the SHA-256 of its 32 bytes."""
    return hashlib.sha256(base64.b64decode(public_key)).hexdigest()


@dataclass(slots=True, kw_only=True)
class Verified:
    """The findings about an export. `problems`: what is wrong, with the line; none: it is as the server wrote it."""

    problems: list[str] = field(default_factory=list)
    organization_id: str | None = None
    public_keys: list[str] = field(default_factory=list)
    entries: int = 0
    unchained: int = 0
    after: int = 0
    last_id: int = 0
    hash: str = ""
    exported_at: str | None = None


def verify(lines: Iterable[bytes], public_keys: Sequence[str] | None = None) -> Verified:
    """Checks every line of an export. `public_keys`: those that may have signed it; None: whichever it names."""
    check = _Check(public_keys)
    for number, line in enumerate(lines, 1):
        if len(check.found.problems) >= _MOST_PROBLEMS:
            return check.found
        check.line(number, line)
    check.end()
    return check.found


class _Check:
    def __init__(self, public_keys: Sequence[str] | None) -> None:
        self.found = Verified()
        self._allowed = public_keys
        self._verifies: Callable[[bytes, bytes], bool] | None = None
        self._number = 0
        self._entries = 0
        self._next: int | None = None
        self._is_open = False
        self._began = False

    def line(self, number: int, line: bytes) -> None:
        """One line more."""
        self._number = number
        read = _read(line)
        if read is None:
            self._problem("is not a line of an export, or was changed")
            return
        kind = read["kind"]
        if not self._began and kind != "start":
            self._problem("is not the start of an export: what came before it is missing")
        if kind == "start" and not self._take_key(read["publicKey"]):
            return
        elif self._began and kind != "start" and not self._is_open:
            self._problem("is in no part: the start of a part is missing before it")
            self._is_open, self._entries = True, 0
        self._began = True
        if self._verifies is not None and not self._verifies(*_signed(read)):
            self._problem("was changed: its signature is not that of the key")
        {"start": self._start, "entry": self._entry, "others": self._others, "end": self._end_of_part}[kind](read)

    def end(self) -> None:
        """No line follows."""
        if not self._number:
            self.found.problems.append("The file is empty.")
        elif self._is_open:
            self.found.problems.append(f"It ends after line {self._number}, in the middle: the end is missing.")
        elif self._next is not None and not self.found.problems:
            self.found.problems.append(
                f"It ends after line {self._number}, but more was exported: the rest is missing."
            )

    def _take_key(self, public_key: str) -> bool:
        if self._allowed is not None and public_key not in self._allowed:
            self._problem(f"names a key that is not the given one: its fingerprint is {fingerprint(public_key)}")
            return False
        self._verifies = _verifier(public_key)
        if public_key not in self.found.public_keys:
            self.found.public_keys.append(public_key)
        return True

    def _start(self, read: Json) -> None:
        if self._is_open:
            self._problem("begins a new part in the middle of one: the end of that is missing")
        elif self.found.organization_id is None:
            self.found.organization_id, self.found.after = read["organizationId"], read["after"]
            self.found.last_id, self.found.hash = read["after"], read["previous"]
        elif read["organizationId"] != self.found.organization_id:
            self._problem("begins an export of another organisation")
        elif (read["after"], read["previous"]) != (self.found.last_id, self.found.hash):
            self._problem("does not go on where the line before it ended: what was between is missing, or is elsewhere")
        self.found.last_id, self.found.hash = read["after"], read["previous"]
        self._is_open, self._entries = True, 0

    def _entry(self, read: Json) -> None:
        self._entries += 1
        self.found.entries += 1
        if not read["hash"] and not self.found.hash:
            self.found.unchained += 1
            self.found.last_id = read["id"]
            return
        names = ("organizationId", "apiKeyId", "atMs", "action", "subject", "detail")
        if read["hash"] != link_hash(read["previous"], [read[name] for name in names]):
            self._problem("was changed: its hash is not that of its content")
        self._follow(read)

    def _others(self, read: Json) -> None:
        self._follow(read)

    def _follow(self, read: Json) -> None:
        if read["previous"] != self.found.hash or read["id"] <= self.found.last_id:
            self._problem("does not follow the line before it: lines between are missing, or their order was changed")
        self.found.last_id, self.found.hash = read["id"], read["hash"]

    def _end_of_part(self, read: Json) -> None:
        if (read["lastId"], read["hash"], read["entries"]) != (self.found.last_id, self.found.hash, self._entries):
            self._problem("is the end of other lines than those before it: lines are missing, or more than there were")
        self._is_open, self._next, self.found.exported_at = False, read["next"], read["at"]

    def _problem(self, what: str) -> None:
        begin = f"Line {self._number} "
        if not any(one.startswith(begin) for one in self.found.problems):
            self.found.problems.append(f"{begin}{what}.")


_FIELDS: Final[dict[str, dict[str, type]]] = {
    "start": {"publicKey": str, "organizationId": str, "after": int, "previous": str},
    "entry": {
        **{"id": int, "previous": str, "hash": str, "organizationId": str, "apiKeyId": str, "atMs": int},
        **{"action": str, "subject": str, "detail": str},
    },
    "others": {"id": int, "previous": str, "hash": str},
    "end": {"lastId": int, "hash": str, "entries": int, "at": str},
}


def _read(line: bytes) -> Json | None:
    """A line as the server writes it: a field twice, or in another place, would be two readings of one signature."""
    try:
        read = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(read, dict) or _canonical(read) != line.rstrip(b"\n"):
        return None
    needed = _FIELDS.get(str(read.get("kind")), {"kind": type(None)}) | {"signature": str}
    if any(type(read.get(name)) is not kind for name, kind in needed.items()):
        return None
    is_whole = (read["kind"] != "start" or read.get("format") == FORMAT) and (read["kind"] != "end" or "next" in read)
    return read if is_whole else None


def _signed(read: Json) -> tuple[bytes, bytes]:
    fields = {name: value for name, value in read.items() if name != "signature"}
    try:
        return base64.b64decode(read["signature"], validate=True), _SIGNED + _canonical(fields)
    except ValueError:
        return b"", b""


def _verifier(public_key: str) -> Callable[[bytes, bytes], bool]:
    from cryptography.exceptions import InvalidSignature  # slow import
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key, validate=True))
    except ValueError:
        return lambda signature, text: False

    def verifies(signature: bytes, text: bytes) -> bool:
        try:
            key.verify(signature, text)
        except InvalidSignature:
            return False
        return True

    return verifies
