"""Simulated chains: transactions on real chain state, none of which leaves the server."""

from dustrun.chain.simulate.chain import SimChain
from dustrun.chain.simulate.result import SimResult
from dustrun.chain.simulate.strategy import Strategy

__all__ = ["SimChain", "SimResult", "Strategy"]
