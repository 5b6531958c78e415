"""Actions that speak HTTP."""
