"""Models behind a connector: what they cost, and how they are asked. Nothing here is imported until it is needed."""
