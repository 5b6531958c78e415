"""SQL for API keys, organisations, the audit log and idempotency keys."""
