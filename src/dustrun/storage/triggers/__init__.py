"""SQL of triggers."""
