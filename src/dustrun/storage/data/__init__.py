"""SQL of connectors, variables, managed tables and conversations."""
