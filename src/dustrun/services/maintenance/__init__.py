"""Retention and periodic maintenance."""
