"""A workflow as one portable JSON or YAML file, without secrets and without ids of the exporting organisation.

References to other objects are written as `unbound:<name>` and listed under `references`. An import creates a draft and
runs nothing. References that are not bound stay `unbound:`; validation rejects them, so the draft cannot be published
or
run.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field
from typing import Any

from pydantic import Field, TypeAdapter, ValidationError

from dustrun.core.text.secret_rules import is_secret, is_secret_name, is_secret_pair
from dustrun.core.values import exact_json
from dustrun.core.values.exact_json import JsonError
from dustrun.core.values.fields import Fields
from dustrun.core.workflow.definition import UNBOUND, WALLET, Definition
from dustrun.core.workflow.model_tools import raw_tools
from dustrun.core.workflow.specs import Specs
from dustrun.errors import Code, Invalid, Problem
from dustrun.records import dataclass
from dustrun.sdk.fields import hinted_fields
from dustrun.services.problems import errors_in, problems_of
from dustrun.services.workflows.workflows import Workflow

FORMAT = 1
SELF = "self"
NAMED = ("connector", "wallet", "workflow")
MAX_NAME = 100
_ID = re.compile(r"(conn|wal|wf)_[0-9a-hjkmnp-tv-z]{26}")
_KINDS = {"conn": "connector", "wal": "wallet", "wf": "workflow"}
_HELD = ("default", "const", "enum", "examples")
"""Keywords of a field's schema that say which value the field has."""
_FILE_NAME = re.compile(r"[^a-z0-9]+")


class PinnedVersion(Fields):
    """A version that a call names: its number on the exporting server, and what it contains."""

    number: int = Field(ge=1, description="The version where the file was exported.")
    hash: str = Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of its portable definition.")


class FileReference(Fields):
    """An object outside the file that the definition refers to."""

    name: str = Field(min_length=1, max_length=MAX_NAME, description="The name after `unbound:` in the definition.")
    kind: str = Field(max_length=64, description="connector, wallet, workflow, secret, self (this workflow) or other.")
    type: str | None = Field(None, max_length=128, description="Connector type.")
    target: str | None = Field(None, max_length=255, description="Name of the object that it means.")
    fields: tuple[str, ...] = Field((), description="Paths of the fields that use it.")
    versions: tuple[PinnedVersion, ...] = Field((), description="Of a workflow: the versions that calls of it name.")


@dataclass(frozen=True, slots=True)
class ExportedFile:
    """The exported file's text and file name."""

    format: str
    file_name: str
    content: str


@dataclass(slots=True)
class _Names:
    """The names assigned so far and the fields that use them. `taken` are names already in the definition."""

    taken: frozenset[str]
    by_value: dict[tuple[str, str], str] = field(default_factory=dict)
    references: dict[str, dict[str, Any]] = field(default_factory=dict)
    targets: Mapping[str, str] = field(default_factory=dict)  # names of objects by id

    def name(self, kind: str, value: str, path: str, type_: str | None = None) -> str:
        """Returns `unbound:connector-1` for the first connector, and the same name for the same connector again; every
        secret gets its own name."""
        known = self.by_value.get((kind, value)) if kind != "secret" else None
        if known is None:
            names = (f"{kind}-{number}" for number in itertools.count(1))
            taken = self.taken | self.references.keys()
            known = SELF if kind == SELF else next(name for name in names if name not in taken)
            self.by_value[(kind, value)] = known
        self.keep(known, kind, path, type_)
        if kind in NAMED and value in self.targets:
            self.references[known]["target"] = self.targets[value]
        return f"{UNBOUND}{known}"

    def keep(self, name: str, kind: str, path: str, type_: str | None = None) -> None:
        """Records a field that uses a name."""
        about = {"name": name, "kind": kind, **({"type": type_} if type_ else {}), "fields": []}
        self.references.setdefault(name, about)["fields"].append(path)


def export(
    workflow: Workflow,
    format_: str,
    specs: Specs,
    targets: Mapping[str, str] | None = None,
    pins: Mapping[tuple[str, int], str] | None = None,
) -> ExportedFile:
    """Exports the version that `workflow` shows, as `json` or `yaml`. `targets`: names of objects by id; `pins`: hashes
    of the versions that its calls name."""
    row = workflow.row
    definition = exact_json.loads(workflow.version.definition)
    names = _named(definition, row.id, specs, targets or {})
    for (workflow_id, number), content in sorted((pins or {}).items()):
        reference = names.references[names.by_value["workflow", workflow_id]]
        reference.setdefault("versions", []).append({"number": number, "hash": content})
    document: dict[str, Any] = {"dustrunWorkflow": FORMAT, "name": row.name}
    optional = {
        "description": row.description or None,
        "maxRuns": row.max_runs,
        "cooldownMs": row.cooldown_ms,
        "requireRehearsal": row.require_rehearsal if row.require_rehearsal != "none" else None,
        "concurrency": None if row.concurrency is None else exact_json.loads(row.concurrency),
        "enforceRehearsal": None if row.enforce_rehearsal is None else exact_json.loads(row.enforce_rehearsal),
        "acceptances": row.acceptances or None,
        "uiMetadata": None if row.ui_metadata is None else exact_json.loads(row.ui_metadata),
    }
    document |= {name: value for name, value in optional.items() if value is not None}
    document["definition"] = definition
    if names.references:
        document["references"] = list(names.references.values())
    content = _as_yaml(document) if format_ == "yaml" else exact_json.dumps_pretty(document)
    stem = _FILE_NAME.sub("-", row.name.lower()).strip("-")[:60] or "workflow"
    return ExportedFile(format_, f"{stem}.{format_}", content)


def _named(definition: dict[str, Any], own_id: str, specs: Specs, targets: Mapping[str, str]) -> _Names:
    """Replaces what a definition's document refers to by names."""
    names = _Names(frozenset(unbound_names(definition)), targets=targets)
    for node_id, node in definition["nodes"].items():
        _strip_node(node, f"nodes.{node_id}", own_id, names, _secret_fields(node["type"], specs))
    return names


def as_portable(definition: dict[str, Any], own_id: str, specs: Specs) -> dict[str, str]:
    """Replaces what a definition's document refers to by names; the placeholders of called workflows by id."""
    names = _named(definition, own_id, specs, {})
    return {value: f"{UNBOUND}{name}" for (kind, value), name in names.by_value.items() if kind == "workflow"}


def unbound_names(value: Any) -> Iterator[str]:
    """The names that an earlier import left unbound in a definition."""
    if isinstance(value, str):
        if value.startswith(UNBOUND):
            yield value.removeprefix(UNBOUND)
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from unbound_names(item)


def _keep(value: str, path: str, names: _Names, type_: str | None = None) -> None:
    name = value.removeprefix(UNBOUND)
    if 1 <= len(name) <= MAX_NAME:
        kind = SELF if name == SELF else name.rpartition("-")[0]
        names.keep(name, kind if kind in (SELF, "secret", *_KINDS.values()) else "other", path, type_)


def _secret_fields(type_: str, specs: Specs) -> frozenset[str]:
    """The payload fields that the node's type marks as secret."""
    return hinted_fields(specs[type_].payload, "x-secret") if type_ in specs else frozenset()


def _strip_node(node: dict[str, Any], path: str, own_id: str, names: _Names, secret_fields: frozenset[str]) -> None:
    connector = node.get("connector")
    if connector:
        listed = connector.get("oneOf") or []
        connector["id"] = _strip_reference(connector["id"], f"{path}.connector.id", connector["type"], names)
        for index, wallet_id in enumerate(listed):
            listed[index] = _strip_reference(wallet_id, f"{path}.connector.oneOf[{index}]", WALLET, names)
    of_tools = {at: tool.pop("connector") for at, tool in raw_tools(node) if isinstance(tool.get("connector"), dict)}
    for part in ("payload", "pinned"):
        if part in node:
            node[part] = _strip(node[part], f"{path}.{part}", own_id, names, secret_fields if part == "payload" else ())
    for at, tool in raw_tools(node):
        if at in of_tools:
            used = tool["connector"] = of_tools[at]
            if isinstance(used.get("id"), str):
                used["id"] = _strip_reference(used["id"], f"{path}.{at}.connector.id", str(used.get("type")), names)


def _strip_reference(value: str, path: str, type_: str, names: _Names) -> str:
    if value.startswith(UNBOUND):
        _keep(value, path, names, type_)
        return value
    if "{{" in value:
        return value
    return names.name(WALLET if type_ == WALLET else "connector", value, path, type_)


def _strip(value: Any, path: str, own_id: str, names: _Names, secret_fields: Any = (), *, secret: bool = False) -> Any:
    if isinstance(value, dict):
        is_pair = is_secret_pair(value)
        is_schema = path.endswith(".properties")  # there a name names a field, not what the field holds
        around, _, own = path.rpartition(".")
        of_secret = around.endswith(".properties") and is_secret_name(own)

        def is_named(key: str) -> bool:
            if of_secret and key in _HELD:
                return True
            return key in secret_fields or (is_secret_name(key) and not is_schema) or (is_pair and key == "value")

        return {
            key: _strip(item, f"{path}.{key}", own_id, names, secret=secret or is_named(key))
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_strip(item, f"{path}[{index}]", own_id, names, secret=secret) for index, item in enumerate(value)]
    if isinstance(value, str):
        if value.startswith(UNBOUND):
            _keep(value, path, names)
            return value
        if value == own_id:
            return names.name(SELF, value, path)
        found = _ID.fullmatch(value)
        if found:
            return names.name(_KINDS[found[1]], value, path)
    return names.name("secret", str(value), path) if is_secret(value, is_named=secret) else value


@dataclass(frozen=True, slots=True)
class FileContent:
    """A parsed file. `content` is everything except format, definition and references, not validated yet.

    The definition has its bindings applied; `to_bind` lists the references that are still unbound."""

    content: dict[str, Any]
    definition: Definition
    to_bind: list[FileReference]


@dataclass(frozen=True, slots=True)
class ImportedDraft:
    """The imported draft, its unbound references and its validation problems."""

    workflow: Workflow
    to_bind: list[FileReference]
    problems: list[Problem]


@dataclass(frozen=True, slots=True)
class ParsedFile:
    """A parsed file: its content without format and references, not validated yet, and its references."""

    document: dict[str, Any]
    references: list[FileReference]


def parse(text: str) -> ParsedFile:
    """Parses an exported file; raises `Invalid`."""
    document = _document(text)
    return ParsedFile(document, references_of(document))


def references_of(document: dict[str, Any]) -> list[FileReference]:
    """Takes the references out of a file's document."""
    return _references(document.pop("references", []))


def read(
    text: str, bindings: Mapping[str, str], own_id: str, rename: Callable[[Any], Any] = lambda it: it
) -> FileContent:
    """Parses a file and binds its references; raises `Invalid` if the file or its definition is malformed. `rename`
    replaces the versions of calls."""
    parsed = parse(text)
    document, references = parsed.document, parsed.references
    known = {reference.name for reference in references} - {SELF}
    unknown = [name for name in bindings if name not in known]
    if unknown:
        message = f"the file has no such reference; it has: {', '.join(sorted(known)) or 'none'}"
        raise Invalid(
            "A binding matches no reference.", details=[Problem(f"bindings.{name}", message) for name in unknown]
        )
    values = {f"{UNBOUND}{name}": value for name, value in bindings.items()} | {f"{UNBOUND}{SELF}": own_id}
    bound = bind(rename(document.pop("definition", None)), values)
    try:
        definition = Definition.model_validate(bound)
    except ValidationError as error:
        found = errors_in(error, bound, Definition.model_validate)
        details = problems_of(found, whole="definition", model=Definition)
        raise Invalid("The definition is invalid.", code=Code.DEFINITION_INVALID, details=details) from None
    return FileContent(document, definition, [one for one in references if one.name in known - set(bindings)])


def _as_yaml(document: dict[str, Any]) -> str:
    from dustrun.core.values import exact_yaml  # slow import: only YAML files need it

    return exact_yaml.dumps(document)


def _of_yaml(text: str) -> Any:
    from dustrun.core.values import exact_yaml  # slow import: only YAML files need it

    return exact_yaml.loads(text)


def load(text: str) -> Any:
    """Parses JSON or YAML, without the `$schema` by which an editor checks it; raises `Invalid`."""
    text = text.removeprefix("\ufeff")
    try:
        found = exact_json.loads_unique(text) if text.lstrip().startswith("{") else _of_yaml(text)
    except JsonError as error:
        raise _unreadable(str(error)) from None
    if isinstance(found, dict):
        found.pop("$schema", None)
    return found


def _document(text: str) -> dict[str, Any]:
    document = load(text)
    if not isinstance(document, dict) or "dustrunWorkflow" not in document:
        raise _unreadable("it has no `dustrunWorkflow`, so it is not an exported workflow")
    version = document.pop("dustrunWorkflow")
    if version != FORMAT or isinstance(version, bool):
        raise _unreadable(f"its format is {str(version)[:20]}, but this server reads format {FORMAT}")
    return document


def _unreadable(why: str) -> Invalid:
    return Invalid("The file cannot be read.", details=[Problem("content", why)])


def _references(found: Any) -> list[FileReference]:
    validate = TypeAdapter(list[FileReference]).validate_python
    try:
        return validate(found)
    except ValidationError as error:
        details = problems_of(errors_in(error, found, validate), whole="references", model=FileReference)
        raise Invalid("The file's references cannot be read.", details=details) from None


def bind(value: Any, values: Mapping[str, str]) -> Any:
    """Replaces every text that equals a key of `values`."""
    if isinstance(value, dict):
        return {key: bind(item, values) for key, item in value.items()}
    if isinstance(value, list):
        return [bind(item, values) for item in value]
    return values.get(value, value) if isinstance(value, str) else value
