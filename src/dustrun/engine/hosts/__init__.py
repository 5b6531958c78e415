"""Who decides which runs advance: the embedded host and its admission."""
