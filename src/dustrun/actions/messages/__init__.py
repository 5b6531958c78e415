"""Actions that speak to people."""
