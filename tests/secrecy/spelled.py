"""The spellings in which a planted secret could turn up, made by other means than the product masks with."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, quote_plus

import re2


def spellings(canary: str) -> Iterator[bytes]:
    """Every form of the canary that must not be found anywhere."""
    raw = canary.encode()
    yield raw
    yield quote(canary, safe="").encode()
    yield quote(canary, safe="").lower().encode()
    yield quote_plus(canary).encode()
    yield json.dumps(canary)[1:-1].encode()
    yield json.dumps(canary)[1:-1].replace("/", "\\/").encode()
    yield html.escape(canary).encode()
    yield raw.hex().encode()
    yield raw.hex().upper().encode()
    yield raw[::-1]
    for shift in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            # without the letters at both ends, which the neighbours decide too
            yield encode(b"\0" * shift + raw + b"\0" * 3)[4:].rstrip(b"=")[: len(raw) * 4 // 3 - 6]


def find_leaks(canaries: dict[str, str], places: dict[str, bytes]) -> list[str]:
    """Where which canary was found, and in which spelling."""
    forms = [(name, form) for name, canary in canaries.items() for form in set(spellings(canary)) if len(form) > 8]
    one_of_them = _search_for({form for _, form in forms})
    return [
        f"{name} as {form[:60]!r} in {place}: …{raw[max(0, raw.find(form) - 120) : raw.find(form) + 200]!r}…"
        for place, raw in places.items()
        if one_of_them.search(raw)
        for name, form in forms
        if form in raw
    ]


def _search_for(forms: set[bytes]) -> Any:
    """All forms in one passage over a place: one after the other they take most of a test's time."""
    options = re2.Options()
    options.max_mem = 2**28
    search = re2.compile(b"|".join(re2.escape(form) for form in sorted(forms)), options)
    assert all(search.search(b"x" + form + b"x") for form in forms)
    return search


def pieces(canary: str, length: int = 10) -> dict[str, str]:
    """The parts of a canary, to find one that was cut before it was masked."""
    return {f"{canary}[{at}:]": canary[at : at + length] for at in range(0, len(canary) - length + 1)}
