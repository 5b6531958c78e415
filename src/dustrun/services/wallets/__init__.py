"""Wallets: addresses, key import, balances, policies, and the budget that a policy leaves."""
