"""Managed tables: reads and changes their rows."""
