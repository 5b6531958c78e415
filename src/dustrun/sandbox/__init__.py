"""User code in a separate, limited, network-less process."""

from dustrun.sandbox.limits import Limits
from dustrun.sandbox.sandbox import BoundScript, Sandbox

__all__ = ["BoundScript", "Limits", "Sandbox"]
