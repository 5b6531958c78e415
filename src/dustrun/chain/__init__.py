"""EVM chains: the JSON-RPC client, networks, fees, simulation."""
