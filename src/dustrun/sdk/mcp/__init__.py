"""A client of MCP servers, for nodes: exact numbers, bounded answers, and it knows what may have happened."""
