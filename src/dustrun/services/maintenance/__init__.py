"""Retention and periodic upkeep of the store."""
