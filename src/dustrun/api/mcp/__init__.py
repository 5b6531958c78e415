"""The MCP server at `/mcp`: tools for assistants, over the same services as the API."""
