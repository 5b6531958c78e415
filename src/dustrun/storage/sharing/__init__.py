"""What several servers on one PostgreSQL store tell each other: who lives, who holds what, what has happened."""
