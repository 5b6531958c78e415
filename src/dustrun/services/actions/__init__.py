"""Actions that are called outside a workflow."""
