"""Tasks in a person's words, and what the workflow that comes of one must do."""
