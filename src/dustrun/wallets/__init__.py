"""Signers of wallets. Nothing else signs, and only services reach them."""
