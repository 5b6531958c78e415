"""The writer on PostgreSQL: the statements of many units in one round trip."""
