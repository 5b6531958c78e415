"""Connectors: stored credentials, OAuth tokens, opening a connection."""
