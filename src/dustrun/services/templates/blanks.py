"""What a template cannot know: addresses, URLs and tables that stand for somebody's own, and connectors."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Literal

from dustrun.catalog import Catalog
from dustrun.core.workflow.definition import UNBOUND
from dustrun.core.workflow.specs import NodeSpec
from dustrun.errors import Invalid, Problem
from dustrun.records import dataclass

Kind = Literal["url", "address", "text", "table", "connector", "wallet"]
Path = tuple[str | int, ...]

_NOBODYS: Final = re.compile(
    r"[a-z][a-z+]*://(([\w-]+\.)*example\.(com|org|net)|127\.0\.0\.1|localhost)([:/?#]|$)|.*/123456789012/"
)
"""Hosts that belong to nobody (RFC 2606), this computer, and the account of all examples."""
_ADDRESS: Final = re.compile(r"0x[0-9a-fA-F]{40}")
_EXAMPLES: Final = (
    "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
    "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC",
    "0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96045",
)
"""Addresses of examples, some with keys that everybody knows."""
_OF_PEOPLE: Final = frozenset({"recipient", "address", "treasury", "spender", "to", "owner"})
"""Contracts and tokens are what a template is about; who is paid, and who may take, never is."""
_NEEDED: Final[Mapping[Kind, str]] = {
    "url": "a URL of your own",
    "address": "an address: 0x and 40 hexadecimal digits",
    "text": "a text",
    "table": "the name of a table",
    "connector": "the id of a connector",
    "wallet": "the id of a wallet",
}


@dataclass(frozen=True, slots=True)
class Blank:
    """`name`: an input of the trigger, or a node with its setting. `places` are all settings that have the value, else
    the nodes that need the connector or the wallet; `fits`: the types of connectors that serve."""

    name: str
    kind: Kind
    node_id: str
    field: str
    is_input: bool
    about: str | None
    example: str
    fits: tuple[str, ...]
    places: tuple[Path, ...]

    @property
    def is_required(self) -> bool:
        """A connector can be chosen later, and without a wallet the default one spends."""
        return self.kind not in ("connector", "wallet")


def blanks_of(definition: Mapping[str, Any], catalog: Catalog) -> list[Blank]:
    """The blanks of a definition, each value once; the wallet first."""
    specs = catalog.specs()
    found: dict[tuple[str, str], Blank] = {}
    spending: list[Path] = []
    for node_id, node in definition["nodes"].items():
        spec = specs.get(node["type"])
        for path, text in _texts(node.get("payload") or {}):
            blank = _setting(node_id, node, spec, path, text)
            if blank is None:
                continue
            same = found.get((blank.kind, text))
            found[blank.kind, text] = replace(same, places=(*same.places, *blank.places)) if same else blank
        if spec is None or node.get("connector"):
            continue
        if spec.effect == "spend":
            spending.append((node_id,))
        elif _needs_connector(catalog, spec):
            named = Blank(
                *(f"{node_id}.connector", "connector", node_id, "connector", False, None, ""),
                fits=tuple(spec.connectors),
                places=((node_id,),),
            )
            found["connector", node_id] = named
    first = spending[:1]
    wallet = [Blank("wallet", "wallet", str(at[0]), "wallet", False, None, "", (), tuple(spending)) for at in first]
    return [*wallet, *found.values()]


def fill(definition: Mapping[str, Any], blanks: Sequence[Blank], values: Mapping[str, Any]) -> dict[str, Any]:
    """The definition with values by name: texts, and `{type, id}` of connectors and wallets; the others stay."""
    filled: dict[str, Any] = copy.deepcopy(dict(definition))
    for blank in blanks:
        value = values.get(blank.name)
        if value is None:
            continue
        for node_id, *path in blank.places:
            node = filled["nodes"][node_id]
            *way, last = ("payload", *path) if path else ("connector",)
            for key in way:
                node = node[key]
            node[last] = value
    return filled


def need_values(blanks: Sequence[Blank], values: Mapping[str, str], *, keep_examples: bool) -> None:
    """Raises `Invalid` with every blank that has no value, every value that no blank has, and what is no address."""
    known = {one.name: one for one in blanks}
    told = ", ".join(f'"{name}"' for name in known) or "none"
    problems = [
        Problem(f"values.{name}", f'The template has no blank "{name}". It has: {told}.')
        for name in values
        if name not in known
    ]
    for name, blank in known.items():
        needed, value = _NEEDED[blank.kind], values.get(name, "").strip()
        if not value and blank.is_required and not keep_examples:
            example = f", in the template {_shown(blank.example)}" if blank.kind != "text" else ""
            problems.append(Problem(f"values.{name}", f"This blank needs {needed}{example}."))
        elif value and blank.kind == "address" and not _ADDRESS.fullmatch(value):
            problems.append(Problem(f"values.{name}", f"This blank needs {needed}."))
    if problems:
        raise Invalid("Some blanks of the template are not filled in.", details=problems)


def _needs_connector(catalog: Catalog, spec: NodeSpec) -> bool:
    trigger = catalog.triggers.get(spec.type)
    return spec.connector_required if trigger is None else trigger.connector_required


def _setting(node_id: str, node: Mapping[str, Any], spec: NodeSpec | None, path: Path, text: str) -> Blank | None:
    name = _input_of(path)
    field = name or next((key for key in reversed(path) if isinstance(key, str)), "")
    kind = _kind_of(text, field, name is not None, path == ("table",) and "table" in node["type"])
    if kind is None:
        return None
    about = _about_input(node, name) if name is not None else _about_setting(spec, field)
    if text.startswith(f"{UNBOUND}secret-"):
        about = f"{about or 'What was left out.'} It was a secret: name it by an expression, {{{{$env.NAME}}}}."
    called = name or ".".join((node_id, *map(str, path)))
    return Blank(called, kind, node_id, field, name is not None, about, text, (), ((node_id, *path),))


def _kind_of(text: str, field: str, is_input: bool, is_table: bool) -> Kind | None:
    if is_table:
        return "table"
    if text.startswith(UNBOUND):
        return "text"
    if "{{" in text:
        return None
    if _NOBODYS.match(text):
        return "url"
    if _ADDRESS.fullmatch(text):
        return "address" if text in _EXAMPLES or field in _OF_PEOPLE else None
    return "text" if is_input and _ADDRESS.search(text) else None


def _input_of(path: Path) -> str | None:
    """The input of the trigger whose default is at a path."""
    is_default = len(path) == 4 and path[:2] == ("inputSchema", "properties") and path[3] == "default"
    return str(path[2]) if is_default else None


def _about_input(node: Mapping[str, Any], name: str) -> str | None:
    found: str | None = node["payload"]["inputSchema"]["properties"][name].get("description")
    return found


def _about_setting(spec: NodeSpec | None, name: str) -> str | None:
    fields = spec.payload.model_fields.items() if spec is not None else ()
    return next((field.description for own, field in fields if name in (own, field.alias)), None)


def _texts(value: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from _texts(one, (*path, key))
    elif isinstance(value, list):
        for at, one in enumerate(value):
            yield from _texts(one, (*path, at))


def _shown(example: str) -> str:
    return example if len(example) <= 100 else f"{example[:99]}…"
