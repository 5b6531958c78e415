"""Sends the log's lines to an OpenTelemetry receiver, as they are written: masked, at the level of the log."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any, Final

from dustrun import log

_EXPORT_WITHIN_S: Final = 5
_OWN: Final = ("opentelemetry", "urllib3", "requests")
"""The senders: their complaints about a receiver that is away stay in the log, or each would be sent to it again."""
_SHOWN_APART: Final = frozenset({"event", "level", "timestamp", "exception"})


class LogExport:
    """Sends to `endpoint`, an OTLP/HTTP receiver such as `http://127.0.0.1:4318`, by a thread of the SDK. What there is
    no room for while the receiver is away is dropped: the log has it."""

    def __init__(self, endpoint: str, version: str) -> None:
        # optional dependency: only a server with `otlp_logs` loads it
        from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
        from opentelemetry.sdk._logs import LoggerProvider
        from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
        from opentelemetry.sdk.resources import Resource

        resource = Resource.create({"service.name": "dustrun", "service.version": version})
        self._provider = LoggerProvider(resource=resource, shutdown_on_exit=False)
        exporter = OTLPLogExporter(
            endpoint=f"{endpoint.rstrip('/').removesuffix('/v1/traces')}/v1/logs", timeout=_EXPORT_WITHIN_S
        )
        self._provider.add_log_record_processor(BatchLogRecordProcessor(exporter, schedule_delay_millis=1000))
        self._logger = self._provider.get_logger("dustrun", version)
        log.send_to(self._take)

    def stop(self) -> None:
        """Sends what is left, for a few seconds at most."""
        log.send_to(None)
        self._provider.force_flush(_EXPORT_WITHIN_S * 1000)
        self._provider.shutdown()

    def _take(self, level: int, entry: Mapping[str, Any]) -> None:
        from opentelemetry._logs import LogRecord, SeverityNumber  # optional dependency

        if str(entry.get("module", "")).startswith(_OWN):
            return
        attributes = {f"dustrun.{name}": _plain(value) for name, value in entry.items() if name not in _SHOWN_APART}
        if "exception" in entry:
            attributes["exception.stacktrace"] = str(entry["exception"])
        severities = {log.DEBUG: 5, log.INFO: 9, log.WARNING: 13, log.ERROR: 17}
        self._logger.emit(
            LogRecord(
                timestamp=_nanoseconds(str(entry["timestamp"])),
                severity_text=str(entry["level"]).upper(),
                severity_number=SeverityNumber(severities[level]),
                body=str(entry["event"]),
                attributes={name: value for name, value in attributes.items() if value is not None},
            )
        )


def _plain(value: Any) -> str | int | bool | None:
    """The value of an attribute: numbers that it cannot hold, and all that has parts, are text."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int) and abs(value) < 2**63:
        return value
    return log.shown(value)


def _nanoseconds(timestamp: str) -> int:
    since = datetime.datetime.fromisoformat(timestamp) - datetime.datetime.fromtimestamp(0, datetime.UTC)
    return (since // datetime.timedelta(milliseconds=1)) * 1_000_000
