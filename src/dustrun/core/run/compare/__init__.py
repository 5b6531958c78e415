"""Differences between two runs of a workflow."""
