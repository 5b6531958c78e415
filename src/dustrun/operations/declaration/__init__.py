"""The parts of declarations of operations."""
