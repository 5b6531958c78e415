"""Validates a definition: all problems at once, each with code, node and field."""

from dustrun.core.validate.references import check_reference
from dustrun.core.validate.whole import MAX_PROBLEMS, check
from dustrun.core.validate.words import field_path, seen_location, suggest

__all__ = ["MAX_PROBLEMS", "check", "check_reference", "field_path", "seen_location", "suggest"]
