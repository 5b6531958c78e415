"""Validates payloads against JSON Schemas."""
