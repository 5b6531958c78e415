"""The outbox: every transaction of this server, from a node's intent to its final receipt, never sent twice."""
