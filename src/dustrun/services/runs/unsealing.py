"""Replaces the marks in stored texts with the signatures they stand for; only the engine does so, to advance a run."""

from __future__ import annotations

from dustrun.core.text.redaction import marks_in, unseal
from dustrun.storage.db.statement import Tx
from dustrun.storage.money import signatures as rows
from dustrun.storage.secrets.vault import Vault


class Unsealing:
    """Replaces marks within one transaction; `secrets` collects the signatures found, by their marks."""

    def __init__(self, tx: Tx, vault: Vault, org_id: str) -> None:
        self.secrets: dict[str, str] = {}
        self._tx = tx
        self._vault = vault
        self._org_id = org_id

    def text(self, text: str) -> str:
        """A stored JSON text with the signatures in their places."""
        unknown = marks_in([text]) - self.secrets.keys()
        if unknown:
            for row in rows.list_of_marks(self._tx, self._org_id, unknown):
                self.secrets[row.mark] = rows.opened(self._tx, self._vault, row)
        return unseal(text, self.secrets.get)
