"""Decisions about triggers."""
