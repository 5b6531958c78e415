"""EVM chains: reading them, and wishes that move value on them."""
