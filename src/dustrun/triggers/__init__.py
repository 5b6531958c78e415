"""Trigger types, one per file."""
