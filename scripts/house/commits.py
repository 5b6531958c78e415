"""Commits say what they do in a line, and why below it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

from house.tree import Finding, Tree

SINCE = "16de777602d202b5a101e5dcfaabfb71926f953e"
"""The commit after which the rule holds: the last one without a body."""
MAX_SUBJECT = 72


def commit_messages(tree: Tree, since: str = SINCE) -> Iterator[Finding]:
    """Subjects of at most 72 characters, then a body; a copy without the history is told so."""
    if _git(tree, "merge-base", "--is-ancestor", since, "HEAD") is None:
        print(f"Commit messages were not checked: the history since {since[:9]} is not here.", file=sys.stderr)
        return
    for commit in (_git(tree, "log", "--no-merges", "--format=%h%n%B%x00", f"{since}..HEAD") or "").split("\0"):
        short, _, message = commit.strip().partition("\n")
        subject, _, body = message.partition("\n")
        if len(subject) > MAX_SUBJECT:
            fault = f"its subject has {len(subject)} characters of {MAX_SUBJECT}"
            yield Finding(f"commit {short}", fault, "Say what it does in fewer words")
        if short and not body.strip():
            yield Finding(f"commit {short}", "it has no body", "Say why below an empty line")


def _git(tree: Tree, *arguments: str) -> str | None:
    """What git prints; None where it fails, as without a history."""
    try:
        done = subprocess.run(["git", *arguments], cwd=tree.root, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None
