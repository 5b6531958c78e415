"""What workflows keep: variables, managed tables, conversations."""
