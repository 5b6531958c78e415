"""Outbound hooks: which events there are, what is told of them, and when a delivery is tried again."""
