"""Ways to execute a simulation on a node: `eth_simulateV1`, `debug_traceCall`, or a local fork."""
