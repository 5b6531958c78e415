"""Event streams: the broadcaster in memory, and the rows behind it."""
