"""Runs user code in a separate process with limits and without network."""

from dustrun.sandbox.limits import Limits
from dustrun.sandbox.sandbox import BoundScript, Sandbox

__all__ = ["BoundScript", "Limits", "Sandbox"]
