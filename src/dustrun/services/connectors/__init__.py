"""Connectors: stored credentials, OAuth tokens, and their use by runs."""
