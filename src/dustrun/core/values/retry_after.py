"""How long a server asks its callers to wait."""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime


def retry_after_s(value: str, now_ms: int) -> float | None:
    """The value of a `Retry-After` header in seconds; None if absent or invalid."""
    value = value.strip()
    if re.fullmatch(r"[0-9]{1,9}", value):
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now_ms / 1000)
    except (ValueError, TypeError, OverflowError):
        return None
