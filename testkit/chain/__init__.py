"""A real EVM node, the contracts on it, and proxies that make it misbehave."""
