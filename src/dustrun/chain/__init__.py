"""The EVM chains: the one JSON-RPC client, the networks, fees, simulation."""
