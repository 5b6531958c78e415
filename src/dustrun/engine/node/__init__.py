"""One attempt of one node: its inputs, its context, its mode, its outcome."""
