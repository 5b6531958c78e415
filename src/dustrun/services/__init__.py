"""Use cases, one file per noun; functions are verbs."""
