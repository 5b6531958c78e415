"""A payload held against a JSON Schema."""
