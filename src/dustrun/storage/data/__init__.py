"""SQL for connectors, variables, managed tables and conversations."""
