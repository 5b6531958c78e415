"""Launches: runs that repeat one rehearsal for real, started by who may, or proposed to a person."""
