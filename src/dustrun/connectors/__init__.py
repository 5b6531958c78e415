"""Types of connectors, one a file."""
