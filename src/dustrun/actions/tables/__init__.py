"""Managed tables: reading and changing their rows."""
