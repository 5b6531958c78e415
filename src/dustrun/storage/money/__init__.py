"""SQL of wallets, transactions, reservations and signatures."""
