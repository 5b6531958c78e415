"""Workflows and their versions: save, publish, archive, import, export, compile."""
