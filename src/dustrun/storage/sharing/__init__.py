"""Messages between servers on one PostgreSQL store: who lives, who holds what, what has happened."""
