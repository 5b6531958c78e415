"""What triggers decide that ask for news: when to ask, what is new, and when a price counts."""
