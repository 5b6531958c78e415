"""Programs of this machine that nodes may speak to."""
