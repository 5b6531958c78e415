"""Composes the server from its settings and serves it."""

from __future__ import annotations

from dustrun.app.composition import Server, compose
from dustrun.app.process import serve

__all__ = ["Server", "compose", "serve"]
