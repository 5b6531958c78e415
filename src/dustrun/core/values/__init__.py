"""Exact values: JSON, YAML, amounts, addresses, fields."""
