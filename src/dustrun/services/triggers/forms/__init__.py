"""Public forms: links that start runs of a workflow without a key."""
