"""Rows of outbound hooks: the hooks, how far each has read, and its deliveries."""
