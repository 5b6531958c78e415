"""Versions that calls name, by content: a number means another version on another server, a hash of the portable
definition does not.

Wallets, connectors and secrets are each server's own and do not count; a called workflow counts by its name, and a
version that is named again by its own content.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

from dustrun.core.values import exact_json
from dustrun.core.workflow.specs import Specs
from dustrun.services.workflows.calls import CALL
from dustrun.services.workflows.import_export import PinnedVersion, as_portable
from dustrun.storage.data import named
from dustrun.storage.db.statement import Tx
from dustrun.storage.workflows import versions as version_rows
from dustrun.storage.workflows.versions import VersionRow

_PAGE: Final = 100
Pin = tuple[str, int]
"""A workflow (its id, or its `unbound:` name) and the version that a call of it names."""


def pins_of(document: Any) -> Iterator[tuple[dict[str, Any], Pin]]:
    """The payload and the pin of every call in a document that names workflow and version; the document may be any."""
    nodes = document.get("nodes") if isinstance(document, dict) else None
    for node in nodes.values() if isinstance(nodes, dict) else ():
        payload = node.get("payload") if isinstance(node, dict) and node.get("type") == CALL else None
        workflow, version = (payload.get("workflowId"), payload.get("version")) if isinstance(payload, dict) else (0, 0)
        if isinstance(payload, dict) and isinstance(workflow, str) and "{{" not in workflow and type(version) is int:
            yield payload, (workflow, version)


class Pins:
    """Hashes of versions in one transaction."""

    def __init__(self, tx: Tx, org_id: str, specs: Specs) -> None:
        self._tx = tx
        self._org_id = org_id
        self._specs = specs
        self._known: dict[Pin, str | None] = {}

    def hash_of(self, workflow_id: str, version: int) -> str | None:
        """SHA-256 of a version's portable definition; None if there is no such version."""
        pending = [(workflow_id, version)]
        opened: dict[Pin, tuple[VersionRow, Any]] = {}
        while pending:  # a chain of calls may be longer than what Python calls
            pin = pending[-1]
            if pin in opened:
                self._known[pin] = self._hash(*opened.pop(pin))
            elif pin not in self._known:
                self._known[pin] = None  # what calls itself has no content of its own
                row = version_rows.find(self._tx, *pin)
                if row is not None:
                    opened[pin] = row, _sorted(row.definition)
                    called = (one for _, one in pins_of(opened[pin][1]))
                    pending += reversed([one for one in called if one not in self._known])
                    continue
            pending.pop()
        return self._known[workflow_id, version]

    def find(self, workflow_id: str, wanted: PinnedVersion) -> int | None:
        """The version of a workflow with this content: the one of that number, else the newest."""
        if self.hash_of(workflow_id, wanted.number) == wanted.hash:
            return wanted.number
        for offset in range(0, version_rows.count(self._tx, workflow_id), _PAGE):
            for row in version_rows.list_page(self._tx, workflow_id, limit=_PAGE, offset=offset):
                if self.hash_of(workflow_id, row.version) == wanted.hash:
                    return row.version
        return None

    def _hash(self, row: VersionRow, document: Any) -> str:
        contents = [self._known[pin] for _, pin in pins_of(document)]
        names = as_portable(document, row.workflow_id, self._specs)
        for (payload, pin), content in zip(list(pins_of(document)), contents, strict=True):
            payload["version"] = content or pin[1]
        called = {
            placeholder: named.find_name(self._tx, self._org_id, workflow_id)
            for workflow_id, placeholder in names.items()
        }
        return hashlib.sha256(exact_json.dumps([document, called], canonical=True)).hexdigest()


def _sorted(definition: str) -> Any:
    return exact_json.loads(exact_json.dumps(exact_json.loads(definition), canonical=True))


def rename(document: Any, found: Mapping[Pin, int]) -> Any:
    """The document of a portable definition with the versions of calls replaced; `found` is by `unbound:` name."""
    copied = copy.deepcopy(document) if found else document
    for payload, pin in list(pins_of(copied)) if found else ():
        payload["version"] = found.get(pin, pin[1])
    return copied
