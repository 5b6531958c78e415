"""Reads OpenAPI documents, and builds the requests of their operations."""
