"""Triggers that watch EVM chains."""
