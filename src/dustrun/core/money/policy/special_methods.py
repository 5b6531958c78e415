"""Methods that `"*"` does not allow, because the calldata alone does not show who gains: executors run other calls,
grants let others act for the wallet, giving methods pay a receiver. `selectors/*.json` lists them with their sources.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any, Final, Literal

from dustrun.core.evm.abi import AbiFault, Function, Param
from dustrun.core.evm.abi_signatures import parse_function
from dustrun.core.evm.selectors import read_selector
from dustrun.core.money.inner_calls import is_readable
from dustrun.core.values import exact_json
from dustrun.core.values.addresses import checksum
from dustrun.records import dataclass

Kind = Literal["executors", "grants", "giving"]
_KINDS: Final[tuple[Kind, ...]] = ("executors", "grants", "giving")
_WHY: Final[Mapping[Kind, str]] = {
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
"""What the names of unlisted methods say; a name is known only when the calldata decodes with an ABI."""


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


def is_special(method: str) -> bool:
    """Whether `"*"` may deny some calls of a method that a policy names by signature or by selector. A selector does
    not tell the name, so it counts as special.
    """
    selector = read_selector(method)
    if selector in special() or is_readable(selector):
        return selector in special()
    return "(" not in method or _kind_by_name(method.partition("(")[0]) is not None


def why_not_by_star(selector: str, method: str | None, data: bytes, wallet: str | None) -> str | None:
    """Why `"*"` does not allow a call; None if it does. `method` is the signature by which the calldata decodes."""
    listed = special().get(selector)
    if listed is None and (method is None or is_readable(selector)):
        return None
    kind = listed.kind if listed is not None else _kind_by_name((method or "").partition("(")[0])
    if kind is None:
        return None
    if kind == "giving" and _gives_to_wallet(listed, method or "", data, wallet):
        return None
    return f'it {_WHY[kind]}, so "*" does not allow it: list it by name'


def _kind_by_name(name: str) -> Kind | None:
    return next((kind for kind, pattern in _NAMES if pattern.match(name)), None)


def _gives_to_wallet(listed: Special | None, method: str, data: bytes, wallet: str | None) -> bool:
    """Whether every receiver is the wallet. An unlisted method does not say which address is the receiver, so all of
    its addresses must be the wallet.
    """
    if listed is not None and (listed.receivers is None or not listed.receivers):
        return listed.receivers is not None
    try:
        function = listed.function if listed is not None else parse_function(method)
        values = function.decode_args(data)
    except AbiFault:
        return False
    if listed is None and function.name.lower().startswith("burn"):
        return False
    names = None if listed is None else listed.receivers
    receivers = [one for pair in zip(function.inputs, values, strict=True) for one in _addresses(*pair, names)]
    return wallet is not None and all(receiver == checksum(wallet) for receiver in receivers)


def _addresses(param: Param, value: Any, names: tuple[str, ...] | None) -> Iterator[str]:
    """The addresses of an argument: those of parameters with these names, or all."""
    yield from _addresses_of(param, value, param.type, names)


def _addresses_of(param: Param, value: Any, kind: str, names: tuple[str, ...] | None) -> Iterator[str]:
    if kind.endswith("]"):
        for item in value:
            yield from _addresses_of(param, item, kind[: kind.rindex("[")], names)
    elif kind == "address":
        if names is None or param.name in names:
            yield value
    elif param.parts:
        for part, item in zip(param.parts, value, strict=True):
            yield from _addresses_of(part, item, part.type, names)
