"""Workflows and their versions: saving, publishing, archiving, import, export, compilation."""
