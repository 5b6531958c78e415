"""The HTTP client of all nodes, with an address guard, timeouts and size limits."""
