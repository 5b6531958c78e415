"""The log and what it is written to."""

from __future__ import annotations

import io
from typing import TextIO, cast

import pytest
import structlog

from dustrun import log


class Full(io.StringIO):
    """A file on a disk that takes no more."""

    def write(self, _text: str) -> int:
        raise OSError(28, "No space left on device")


def test_log_that_cannot_be_written_fails_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", cast(TextIO, Full()))
    before = structlog.get_config()
    log.set_up(as_json=True)
    try:
        structlog.get_logger().error("the disk is full")
    finally:
        structlog.configure(**before)
