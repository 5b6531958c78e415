"""Data of workflows: variables, managed tables, conversations."""
