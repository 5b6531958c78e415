"""Workflow files: a bare definition, or a document with a name, description and example payload."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dustrun.cli.http.failures import CliError
from dustrun.cli.http.options import parse_json, read_file
from dustrun.core.values.exact_json import JsonError
from dustrun.records import dataclass


@dataclass(frozen=True, slots=True)
class Document:
    """The content of a workflow file; `payload` is an example for its trigger."""

    name: str
    description: str
    definition: Any
    payload: Any


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
