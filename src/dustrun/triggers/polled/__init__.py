"""Triggers that are asked for news."""
