"""Triggers for what happens in this server."""
