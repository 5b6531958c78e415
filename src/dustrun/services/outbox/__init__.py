"""The outbox: plans, signs, sends and tracks each transaction, from a node's intent to its final receipt."""
