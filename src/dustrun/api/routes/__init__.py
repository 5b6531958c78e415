"""Routes: parse, call a service, shape."""
