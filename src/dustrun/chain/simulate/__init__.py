"""Simulated chains: transactions on the state they would really meet, none of which leaves the server."""

from dustrun.chain.simulate.chain import SimChain
from dustrun.chain.simulate.result import SimResult
from dustrun.chain.simulate.strategy import Strategy

__all__ = ["SimChain", "SimResult", "Strategy"]
