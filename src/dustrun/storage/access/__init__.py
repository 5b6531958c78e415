"""SQL of keys, organizations, audit rows and idempotency keys."""
