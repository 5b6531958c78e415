"""The clients of `docs/guides/clients.md`, run against a real server: programs, Node, a browser."""
