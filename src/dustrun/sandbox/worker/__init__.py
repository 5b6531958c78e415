"""The code of the sandbox process. Imports only the standard library and QuickJS, nothing of the server."""
