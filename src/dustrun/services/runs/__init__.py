"""Runs: start, retry, resume, approve, report; the port to the engine."""
