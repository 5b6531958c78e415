"""Signers: who turns an unsigned transaction into signed bytes. Nothing else signs."""
