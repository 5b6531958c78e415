"""The one HTTP client: guard, timeouts, size limits."""
