"""Spends of nodes: live, dust or simulated."""
