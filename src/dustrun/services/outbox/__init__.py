"""The outbox: every transaction of this server, from a node's wish to the receipt that counts, and never twice."""
