"""Models inside workflows."""
