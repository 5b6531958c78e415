"""Workflow files: a bare definition, or a document with a name, description, settings and an example payload."""

from __future__ import annotations

from dataclasses import field
from pathlib import Path
from typing import Any

from dustrun.cli.http.failures import CliError
from dustrun.cli.http.options import parse_json, read_file
from dustrun.core.values.exact_json import JsonError
from dustrun.records import dataclass

_SETTINGS = (
    "maxRuns",
    "cooldownMs",
    "concurrency",
    "requireRehearsal",
    "enforceRehearsal",
    "acceptances",
    "uiMetadata",
)
_GUARDS = ("requireRehearsal", "enforceRehearsal", "acceptances")
_READ = {*_SETTINGS, "name", "description", "definition", "payload", "dustrunWorkflow", "references"}


@dataclass(frozen=True, slots=True)
class Document:
    """The content of a workflow file. `payload` is an example for its trigger; `settings` are those of the workflow,
    such as `maxRuns`; `others` names what no command reads."""

    name: str
    description: str
    definition: Any
    payload: Any
    settings: dict[str, Any] = field(default_factory=dict)
    others: tuple[str, ...] = ()

    def need_no_guards(self) -> None:
        """Raises `CliError` if the file demands a rehearsal or an acceptance, which a run from it would skip."""
        kept = [name for name in _GUARDS if self.settings.get(name) not in (None, 0, "none")]
        if kept:
            raise CliError(
                f"The file has `{kept[0]}`, which only a saved workflow applies. "
                "Save it (dustrun workflow create FILE) and run that, or add --simulate."
            )


def is_file(word: str) -> bool:
    """Whether a command-line argument names a workflow file rather than a workflow."""
    return word.endswith((".json", ".yaml", ".yml"))


def read_document(path: Path) -> Document:
    """Reads a `.json` or `.yaml` file of either form: `{"nodes": …}`, or a document with name, payload and so on."""
    found = _parse(path)
    if isinstance(found, dict):
        found.pop("$schema", None)  # by which an editor checks it
    if isinstance(found, dict) and "definition" in found:
        return Document(
            name=str(found.get("name", path.stem)),
            description=str(found.get("description", "")),
            definition=found["definition"],
            payload=found.get("payload"),
            settings={name: found[name] for name in _SETTINGS if found.get(name) is not None},
            others=tuple(name for name in found if name not in _READ),
        )
    if isinstance(found, dict) and "nodes" in found:
        return Document(path.stem, "", found, None)
    raise CliError(f'"{path}" is not a workflow: it has neither "nodes" nor "definition".')


def _parse(path: Path) -> Any:
    if path.suffix not in (".yaml", ".yml"):
        return parse_json(f'"{path}"', read_file(path))
    # slow import: only YAML files need it
    from dustrun.core.values import exact_yaml

    try:
        return exact_yaml.loads(read_file(path))
    except JsonError as error:
        raise CliError(f'Cannot parse "{path}" as YAML: {error}.') from None
