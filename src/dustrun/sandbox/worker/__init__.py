"""What runs inside the sandbox process: standard library and QuickJS only, nothing of the server."""
