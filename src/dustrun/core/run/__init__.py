"""A run: states, journal, plan, retries, effects, comparison."""
