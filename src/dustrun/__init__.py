"""Dustrun: an automation server for workflows that move money and call APIs."""

__version__ = "0.1.0"
