"""How a dry run is executed on a node: `eth_simulateV1`, `debug_traceCall`, or a local fork."""
