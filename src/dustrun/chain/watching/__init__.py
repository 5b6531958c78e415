"""Reads blocks and their events for triggers."""
