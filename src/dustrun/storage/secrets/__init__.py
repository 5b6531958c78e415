"""Encryption at rest: the master key, data keys, sealed columns, process hardening."""
