"""SQL for wallets, transactions, reservations and signatures."""
