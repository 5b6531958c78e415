"""Triggers of published workflows: subscriptions, events and what they start."""
