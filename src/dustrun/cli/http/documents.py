"""Workflow files: a bare definition, or a document with a name, description, settings and an example payload."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import field
from pathlib import Path
from typing import Any

from dustrun.cli.http.client import Client
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


# Resolves what the user typed to a workflow or wallet id.


_ID = re.compile(r"wf_[0-9a-z]{26}")
_WALLET_ID = re.compile(r"wal_[0-9a-z]{26}")
_PAGE = 100


def workflow_id(client: Client, word: str) -> str:
    """The id of the workflow named `word`; an id is returned unchanged. A part of a name is only a hint: else a command
    for a workflow that was renamed would run another one."""
    if _ID.fullmatch(word):
        return word
    found = _all(client, "/v1/workflows", q=word)
    same = [item for item in found if item["name"].casefold() == word.casefold()]
    if len(same) == 1:
        return str(same[0]["id"])
    if same:
        raise CliError(f'"{word}" names {len(same)} workflows; use an id:', details=_listed(same))
    parts = [item["name"] for item in found if word.casefold() in item["name"].casefold()]
    raise CliError(f'There is no workflow "{word}".', hint=_ask(parts[:3]) or _near(client, word))


def meant(word: str, names: Iterable[str]) -> str | None:
    """A "Did you mean …?" hint with similar names; None if there are none."""
    return _ask(difflib.get_close_matches(word, list(names), n=3, cutoff=0.5))


def _ask(near: Iterable[str]) -> str | None:
    names = " or ".join(f'"{name}"' for name in near)
    return f"Did you mean {names}?" if names else None


def _listed(items: list[dict[str, Any]]) -> list[dict[str, str]]:
    return [{"field": item["id"], "message": item["name"]} for item in items[:20]]


def _near(client: Client, word: str) -> str:
    names = [item["name"] for item in client.get("/v1/workflows", limit=_PAGE)["items"]]
    return (
        meant(word, names)
        or "`dustrun workflow list` shows the workflows that this key sees. A file must end in .json or .yaml."
    )


def wallet_id(client: Client, word: str) -> str:
    """The id of the wallet with that name, address or id."""
    if _WALLET_ID.fullmatch(word):
        return word
    found = _all(client, "/v1/wallets", archived="true")
    wanted = word.casefold()
    same = [item for item in found if wanted in (item["name"].casefold(), item["address"].casefold())]
    same = [item for item in same if not item["archivedAt"]] or same
    if len(same) == 1:
        return str(same[0]["id"])
    if same:
        raise CliError(f'"{word}" names {len(same)} wallets; use an id:', details=_listed(same))
    hint = meant(word, [item["name"] for item in found])
    hint = hint or "`dustrun wallet list` shows the wallets that this key sees."
    raise CliError(f'There is no wallet "{word}".', hint=hint)


def _all(client: Client, path: str, **query: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        page = client.get(path, **query, limit=_PAGE, offset=len(found))
        found += page["items"]
        if not page["hasMore"]:
            return found
