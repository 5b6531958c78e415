"""How a node spends: live, dust, or in a simulation."""
