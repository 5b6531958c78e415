"""The HTTP server below the application: sockets, connections, the protocol, and shutdown."""
