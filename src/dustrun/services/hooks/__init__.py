"""Outbound hooks: other systems are told what happens in runs, at least once and in the order of each run.

Deliveries are made from stored events, by cursors that move in the same transaction; then they are sent until they
arrive. So nothing is lost when the server is killed, and the engine knows nothing of hooks.
"""
