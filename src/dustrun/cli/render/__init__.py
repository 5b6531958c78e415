"""Renders runs, reports, tables and trees on the terminal."""
