"""The list of a stream's events is that of the published schemas, field by field."""

from __future__ import annotations

from dustrun.core.stream_events import NOTICES, OF_RUNS
from dustrun.operations.shapes import events


def test_every_event_is_described_with_its_fields() -> None:
    schemas = {schema["properties"]["type"]["const"]: schema for schema in events.schemas().values()}
    listed = {kind: {"type", "seq", "runId", "at", *fields} for kind, fields in OF_RUNS.items()}
    listed |= {kind: {"type", "at", "workflowId", *fields} for kind, fields in NOTICES.items()}
    assert {kind: set(schema["properties"]) for kind, schema in schemas.items()} == listed
