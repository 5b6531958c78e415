"""EVM actions: chain reads, and intents that move value."""
