"""Exports of the audit log: every way to tamper with one is named by its line."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dustrun.core.audit_export import FORMAT, Json, line_of, link_hash, verify

_KEY, _OTHER = (Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2))
_ORDER = "does not follow the line before it: lines between are missing, or their order was changed."
_MOVED = "does not go on where the line before it ended: what was between is missing, or is elsewhere."
_CHANGED = "was changed: its signature is not that of the key."
_NO_END = "It ends after line {}, in the middle: the end is missing."
_END = "is the end of other lines than those before it: lines are missing, or more than there were."


def _public(key: Ed25519PrivateKey) -> str:
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()


def _part(entries: range, previous: str, after: int, following: int | None) -> tuple[list[Json], str]:
    start = {"kind": "start", "format": FORMAT, "organizationId": "org_1", "after": after, "previous": previous}
    made: list[Json] = [{**start, "publicKey": _public(_KEY), "signedBy": "akey_1", "at": "2026-01-01T00:00:00.000Z"}]
    for n in entries:
        content = ("org_1", "key_1", 1000 + n, "key.create", f"é\x7f {n}", '{"name": "\\u0000"}')
        names = ("organizationId", "apiKeyId", "atMs", "action", "subject", "detail")
        fields = dict(zip(names, content, strict=True))
        made.append({"kind": "entry", "id": n, "previous": previous, "hash": link_hash(previous, content), **fields})
        previous = made[-1]["hash"]
    last = entries[-1] if entries else after
    end = {"kind": "end", "entries": len(entries), "lastId": last, "hash": previous, "next": following}
    return [*made, {**end, "at": "2026-01-02T00:00:00.000Z"}], previous


def _export() -> list[bytes]:
    """Two parts of three entries each, in eleven lines, of which one stands for others' entries."""
    first, hash = _part(range(1, 4), "", 0, 3)
    others = {"kind": "others", "id": 5, "previous": hash, "hash": "ab" * 32}
    second, _ = _part(range(6, 9), "ab" * 32, 3, None)
    second[0]["previous"] = hash
    second.insert(1, others)
    return [line_of(one, _KEY.sign).encode() for one in (*first, *second)]


def _edit(number: int, key: Ed25519PrivateKey | None = None, **changes: Any) -> Callable[[list[bytes]], list[bytes]]:
    """One line with other content: signed anew by a key, or with the signature that it had."""

    def edit(lines: list[bytes]) -> list[bytes]:
        fields = orjson.loads(lines[number - 1]) | changes
        text = orjson.dumps(fields, option=orjson.OPT_SORT_KEYS) + b"\n"
        if key is not None:
            text = line_of({name: value for name, value in fields.items() if name != "signature"}, key.sign).encode()
        return [*lines[: number - 1], text, *lines[number:]]

    return edit


def _without(*numbers: int) -> Callable[[list[bytes]], list[bytes]]:
    return lambda lines: [line for n, line in enumerate(lines, 1) if n not in numbers]


def _swapped(lines: list[bytes]) -> list[bytes]:
    return [*lines[:2], lines[3], lines[2], *lines[4:]]


def test_export_that_nobody_changed_verifies() -> None:
    found = verify(_export(), [_public(_KEY)])
    assert (found.problems, found.entries, found.after, found.last_id, found.organization_id) == ([], 6, 0, 8, "org_1")
    assert found.exported_at == "2026-01-02T00:00:00.000Z"
    alone = verify(_export()[5:])
    assert (alone.problems, alone.entries, alone.after) == ([], 3, 3)


@pytest.mark.parametrize(
    ("tamper", "problems"),
    [
        (_edit(3, subject="other"), [f"Line 3 {_CHANGED}"]),
        (_edit(3, _OTHER, subject="other"), [f"Line 3 {_CHANGED}"]),
        (_edit(3, _KEY, subject="other"), ["Line 3 was changed: its hash is not that of its content."]),
        (_edit(7, hash="cd" * 32), [f"Line 7 {_CHANGED}", f"Line 8 {_ORDER}"]),
        (_edit(3, at="later"), [f"Line 3 {_CHANGED}"]),
        (_edit(3, signature="no Base64"), [f"Line 3 {_CHANGED}"]),
        (_edit(3, id="3"), ["Line 3 is not a line of an export, or was changed.", f"Line 4 {_ORDER}"]),
        (_without(3), [f"Line 3 {_ORDER}", f"Line 4 {_END}"]),
        (_without(4), [f"Line 4 {_END}", f"Line 5 {_MOVED}"]),
        (_without(2), [f"Line 2 {_ORDER}", f"Line 4 {_END}"]),
        (_swapped, [f"Line {n} {_ORDER}" for n in (3, 4)] + [f"Line 5 {_END}"]),
        (lambda lines: [*lines[:3], lines[2], *lines[3:]], [f"Line 4 {_ORDER}", f"Line 6 {_END}"]),
        (_without(7), [f"Line 7 {_ORDER}"]),
        (_without(5), ["Line 5 begins a new part in the middle of one: the end of that is missing."]),
        (_without(6), ["Line 6 is in no part: the start of a part is missing before it."]),
        (_without(1), ["Line 1 is not the start of an export: what came before it is missing."]),
        (lambda lines: lines[:-1], [_NO_END.format(10)]),
        (lambda lines: lines[:3], [_NO_END.format(3)]),
        (lambda lines: lines[:5], ["It ends after line 5, but more was exported: the rest is missing."]),
        (lambda lines: [*lines[5:], *lines[:5]], [f"Line 7 {_MOVED}"]),
        (lambda lines: [*lines[:-1], lines[-1][:-20]], ["Line 11 is not a line of an export, or was changed."]),
        (lambda lines: [*lines[:2], b"{}\n", *lines[2:]], ["Line 3 is not a line of an export, or was changed."]),
        (
            lambda lines: [*lines[:2], lines[2].replace(b'{"action"', b'{"action":"x","action"'), *lines[3:]],
            ["Line 3 is not a line of an export, or was changed.", f"Line 4 {_ORDER}"],
        ),
        (lambda _: [], ["The file is empty."]),
    ],
)
def test_what_was_tampered_with_is_named_by_line(
    tamper: Callable[[list[bytes]], list[bytes]], problems: list[str]
) -> None:
    found = verify(tamper(_export())).problems
    assert found[: len(problems)] == problems


def test_export_of_another_key_is_refused_though_it_is_whole() -> None:
    (problem, *_) = verify(_export(), [_public(_OTHER)]).problems
    assert problem.startswith("Line 1 names a key that is not the given one: its fingerprint is ")
