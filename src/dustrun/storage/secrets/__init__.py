"""Encryption at rest: master key, data keys, encrypted columns, process hardening."""
