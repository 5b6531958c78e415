"""Clients of brokers, for triggers."""
