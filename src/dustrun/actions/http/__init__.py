"""HTTP actions."""
