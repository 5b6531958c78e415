"""Naive interpreters and random workflows that the planner and the engine are compared with."""
