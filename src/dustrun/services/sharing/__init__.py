"""Several servers on one PostgreSQL store: who lives, who does what, and how they tell each other."""
