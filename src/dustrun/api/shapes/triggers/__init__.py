"""Shapes of triggers: events, schedules, webhooks, back-tests."""
