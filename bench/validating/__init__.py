"""A server that validates requests against an OpenAPI document."""
