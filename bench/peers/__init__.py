"""Other engines doing the same work, each in an environment of its own under `.tools/`, which git ignores.

The programs of the peers import this module in their own environments: it needs nothing but the standard library.
"""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / ".tools"
IN_FLIGHT = 50
WITHIN_S = 240
"""A peer gets no more than this many seconds for all of its rounds."""


class Unavailable(Exception):
    """The peer cannot be measured here; the message says why."""


class Stuck(Exception):
    """A workflow did not end, or ended with an error: the figures found so far stand."""
