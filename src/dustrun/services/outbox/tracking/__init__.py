"""Follows signed transactions to their end: broadcasts, reads receipts, raises bids, and fills nonce gaps."""
