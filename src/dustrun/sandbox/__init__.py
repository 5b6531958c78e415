"""Runs user code in a separate process with limits and without network."""

from dustrun.sandbox.limits import SandboxLimits
from dustrun.sandbox.sandbox import BoundScript, Sandbox, missing_layers

__all__ = ["BoundScript", "Sandbox", "SandboxLimits", "missing_layers"]
