"""Templates: bundled workflows."""
