"""Imported OpenAPI documents, and their operations as node types."""
