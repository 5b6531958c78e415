"""Who may do what: keys, organizations, permissions, audit, idempotency, usage."""
