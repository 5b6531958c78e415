"""Watches the world for subscriptions."""
