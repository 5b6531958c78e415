"""Connector types, one per file."""
