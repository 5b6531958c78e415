"""Where a workflow is kept: one folder, written as a path, and any number of tags; and what a scope of them reaches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

_PART: Final = r"[^/\s](?:[^/\x00-\x1f]{0,62}[^/\s])?"
FOLDER_PATTERN: Final = rf"^{_PART}(?:/{_PART}){{0,4}}$"
"""Up to five names with slashes between them, like `payroll/europe`."""
TAG_PATTERN: Final = r"^[a-z0-9][a-z0-9._-]{0,39}$"
_FOLDER, _TAG = "folder:", "tag:"
SCOPE_PATTERN: Final = rf"^(?:{_FOLDER}{FOLDER_PATTERN[1:-1]}|{_TAG}{TAG_PATTERN[1:-1]})$"
"""One entry of a scope: `folder:payroll`, `tag:money`."""


def is_in_folder(folder: str | None, of: str) -> bool:
    """Whether a folder is this one or one inside it."""
    return folder is not None and (folder == of or folder.startswith(f"{of}/"))


def tags_text(tags: Iterable[str]) -> str:
    """Tags as the store keeps them: each once, with a space around it; empty without any."""
    found = sorted(set(tags))
    return f" {' '.join(found)} " if found else ""


def reaches(scope: Sequence[str], workflow_id: str, folder: str | None, tags: Sequence[str]) -> bool:
    """Whether a scope has a workflow: by id, by its folder or one around it, or by a tag."""
    return any(
        entry == workflow_id
        or (entry.startswith(_FOLDER) and is_in_folder(folder, entry.removeprefix(_FOLDER)))
        or (entry.startswith(_TAG) and entry.removeprefix(_TAG) in tags)
        for entry in scope
    )


def is_within(entry: str, scope: Sequence[str]) -> bool:
    """Whether a scope has all that an entry of another one has, wherever workflows are moved."""
    if not entry.startswith(_FOLDER):
        return entry in scope
    around = (one.removeprefix(_FOLDER) for one in scope if one.startswith(_FOLDER))
    return any(is_in_folder(entry.removeprefix(_FOLDER), one) for one in around)
