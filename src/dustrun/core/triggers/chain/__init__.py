"""Chain triggers, the pure part: stored headers, cursors, what to scan next, and which events match."""
