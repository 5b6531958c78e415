"""Bundled workflows to start from."""
