"""Commands about the store itself: they open it directly, not through a server."""
