"""Access control: keys, organisations, permissions, audit, idempotency, usage."""
