"""`dustrun doctor`: checks the machine, the store, the chains and the wallets."""
