"""The values that a stored table may hold."""
