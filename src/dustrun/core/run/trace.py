"""Trace ids of a run and its nodes (W3C Trace Context), derived from the run itself.

No trace state is kept while a run waits for days or the server restarts: every id can be recomputed from the
organisation, the run id, the node path and attempt, and the caller's `traceparent`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

from dustrun.records import dataclass

_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


@dataclass(frozen=True, slots=True)
class Span:
    """One span: trace id and span id (hexadecimal), and whether the trace is sampled."""

    trace_id: str
    span_id: str
    is_sampled: bool = True

    def traceparent(self) -> str:
        """The `traceparent` header that makes a callee a child of this span."""
        return f"00-{self.trace_id}-{self.span_id}-{int(self.is_sampled):02x}"


def parse(traceparent: str | None) -> Span | None:
    """Parses a caller's `traceparent`; None for an invalid one, which the standard says to ignore."""
    found = _PARENT.fullmatch(traceparent or "")
    if found is None:
        return None
    version, trace_id, span_id, flags, rest = found.groups()
    if version == "ff" or (version == "00" and rest) or not int(trace_id, 16) or not int(span_id, 16):
        return None
    return Span(trace_id, span_id, bool(int(flags, 16) & 1))


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def of_run(org_id: str, run_id: str, trace: Mapping[str, str] | None) -> Span:
    """The span of a run: in its caller's trace if a `traceparent` was sent, else in a new trace."""
    parent = parse((trace or {}).get("parent"))
    digest = _digest("run", org_id, run_id)
    if parent is None:
        return Span(digest[:32], digest[32:48])
    return Span(parent.trace_id, digest[32:48], parent.is_sampled)


def of_node(run: Span, org_id: str, run_id: str, path: str, attempt: int) -> Span:
    """The span of one node attempt, a child of the run's span."""
    return Span(run.trace_id, _digest("node", org_id, run_id, path, str(attempt))[:16], run.is_sampled)
