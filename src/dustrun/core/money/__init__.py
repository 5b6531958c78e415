"""Amounts that move: intents, receipts, token calls, dust, and the policy that judges them."""
