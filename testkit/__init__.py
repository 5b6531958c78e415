"""What tests and proofs share: a composed server, real processes, a real chain, a real PostgreSQL."""
