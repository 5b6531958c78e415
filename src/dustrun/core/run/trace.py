"""Where a run and its nodes stand in a trace (W3C Trace Context): ids that follow from the run itself.

Nothing of a trace is kept in memory while a run waits for days or its server restarts: every id can be told again from
the run's organisation, its id, a node's path and its attempt, and from the `traceparent` that its caller sent.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


@dataclass(frozen=True, slots=True)
class Place:
    """One span: its trace, its own id, both hexadecimal, and whether the trace is recorded."""

    trace_id: str
    span_id: str
    is_sampled: bool = True

    def traceparent(self) -> str:
        """The header that makes what is called a part of this span."""
        return f"00-{self.trace_id}-{self.span_id}-{int(self.is_sampled):02x}"


def parse(traceparent: str | None) -> Place | None:
    """The span that a caller names; None for a header that is not one, which the standard says to ignore."""
    found = _PARENT.fullmatch(traceparent or "")
    if found is None:
        return None
    version, trace_id, span_id, flags, rest = found.groups()
    if version == "ff" or (version == "00" and rest) or not int(trace_id, 16) or not int(span_id, 16):
        return None
    return Place(trace_id, span_id, bool(int(flags, 16) & 1))


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def of_run(org_id: str, run_id: str, trace: Mapping[str, str] | None) -> Place:
    """The span of a run: in the trace of its caller if that sent one, else in a trace of its own."""
    parent = parse((trace or {}).get("parent"))
    digest = _digest("run", org_id, run_id)
    if parent is None:
        return Place(digest[:32], digest[32:48])
    return Place(parent.trace_id, digest[32:48], parent.is_sampled)


def of_node(run: Place, org_id: str, run_id: str, path: str, attempt: int) -> Place:
    """The span of one attempt of a node, below its run's."""
    return Place(run.trace_id, _digest("node", org_id, run_id, path, str(attempt))[:16], run.is_sampled)
