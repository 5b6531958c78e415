"""Tests in processes beside each other, which pytest forks once it has collected: `--processes N`.

Collection costs ten seconds of processor time, which each process of pytest-xdist spends anew; here all share one. Each
process gets whole files, in the order of the collection, and the next when it comes to the last test of one, so that
fixtures of the session live as long as in a single process. See docs/decisions/0117-tests-are-forked.md.
"""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED_FOLDER = pytest.StashKey[Path]()


def shared_folder(config: pytest.Config, own: Path) -> Path:
    """A folder for what all processes of a test run use; `own` is that of this process."""
    return config.stash.get(SHARED_FOLDER, own)
