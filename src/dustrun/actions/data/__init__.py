"""Actions that reshape data."""
