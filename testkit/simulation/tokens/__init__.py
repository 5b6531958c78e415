"""Contracts of the simulated chain, what people do with them, and nodes that lie about them."""
