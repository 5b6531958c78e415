"""The command line; it talks HTTP to a running server."""
