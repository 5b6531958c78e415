"""Signers of wallets. Nothing else signs, and only services may import this package."""
