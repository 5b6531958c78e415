"""Well-known methods: executors run other calls, grants let others act for the wallet, giving methods pay a receiver,
and those of `arguments.json` do none of this. `selectors/*.json` lists them with their sources.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any, Final, Literal

from dustrun.core.evm.abi import Function, Param
from dustrun.core.evm.abi_signatures import parse_function
from dustrun.core.evm.calls import read_selector
from dustrun.core.money.token_calls import is_readable
from dustrun.core.values import exact_json
from dustrun.records import dataclass

Kind = Literal["executors", "grants", "giving"]
_KINDS: Final[tuple[Kind, ...]] = ("executors", "grants", "giving")
WHY: Final[Mapping[Kind, str]] = {
    "executors": "executes calls that cannot be decoded",
    "grants": "lets others act for the wallet",
    "giving": "may give to somebody else than the wallet",
}
_NAMES: Final[tuple[tuple[Kind, re.Pattern[str]], ...]] = (
    ("executors", re.compile(r"(exec|multi_?call|multi_?send|batch_?(call|exec)|forward|invoke|flash_?loan)", re.I)),
    ("grants", re.compile(r"(approve(_?for)?_?(all|deleg)|authori[sz]e|set_?authori|allow|grant|transfer_?owner"
                          r"|set_?(approval|operator|relayer|delegate|owner)|.*(operator|deleg|relayer|by_?sig$|with_?sig$))",
                          re.I)),
    ("giving", re.compile(r"(withdraw|redeem|burn|transfer_?shares|.*_?to$)", re.I)),
)  # fmt: skip
"""The meaning of unlisted methods by name; a name is known only when the calldata decodes with an ABI."""


@dataclass(frozen=True, slots=True)
class Special:
    """A listed method. `receivers` names the parameters that say who gains, for a giving method; None: it never gives
    to the wallet; empty: always to the caller.
    """

    kind: Kind
    function: Function
    receivers: tuple[str, ...] | None
    source: str


@functools.cache
def special() -> Mapping[str, Special]:
    """The listed methods by selector."""
    found: dict[str, Special] = {}
    for kind in _KINDS:
        for entry in _read(kind):
            function = parse_function(entry["signature"])
            receivers = entry.get("receivers")
            names = None if receivers is None else tuple(receivers)
            found[read_selector(function.signature)] = Special(kind, function, names, entry["source"])
    return found


@functools.cache
def known_functions() -> Mapping[str, Function]:
    """Well-known methods by selector, with the names of their parameters."""
    plain = map(parse_function, (entry["signature"] for entry in _read("arguments")))
    named = {read_selector(function.signature): function for function in plain}
    return named | {selector: one.function for selector, one in special().items()}


def _read(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = exact_json.loads(files(__package__).joinpath(f"selectors/{name}.json").read_bytes())
    return found


def is_plain(selector: str) -> bool:
    """Whether it is a well-known method that names no receiver: it gives to the caller, or moves tokens, which are
    judged as movements.
    """
    return selector in known_functions() and selector not in special()


def kind_of(selector: str, method: str | None) -> Kind | None:
    """The kind of a method by list, else by its name, which can only deny."""
    listed = special().get(selector)
    if listed is not None:
        return listed.kind
    if method is None or is_readable(selector) or is_plain(selector):
        return None
    name = method.partition("(")[0]
    return next((kind for kind, pattern in _NAMES if pattern.match(name)), None)


def receivers_of(selector: str, method: str | None, data: bytes) -> list[str] | None:
    """Whom a giving call pays, apart from its caller; None: somebody else in any case. An unlisted method does not say
    which address is the receiver, so all are. Raises `AbiFault`.
    """
    listed = special().get(selector)
    if listed is not None and (listed.receivers is None or not listed.receivers):
        return None if listed.receivers is None else []
    function = listed.function if listed is not None else parse_function(method or "")
    if listed is None and function.name.lower().startswith("burn"):
        return None
    names = None if listed is None else listed.receivers
    pairs = zip(function.inputs, function.decode_args(data), strict=True)
    return [one for param, value in pairs for one in _addresses(param, value, param.type, names)]


def _addresses(param: Param, value: Any, kind: str, names: tuple[str, ...] | None) -> Iterator[str]:
    """The addresses of an argument: those of parameters with these names, or all."""
    if kind.endswith("]"):
        for item in value:
            yield from _addresses(param, item, kind[: kind.rindex("[")], names)
    elif kind == "address":
        if names is None or param.name in names:
            yield value
    elif param.parts:
        for part, item in zip(param.parts, value, strict=True):
            yield from _addresses(part, item, part.type, names)
