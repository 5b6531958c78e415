"""Requests from outside: addresses, and what comes in there."""
