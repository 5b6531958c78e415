"""What a stored table may hold."""
