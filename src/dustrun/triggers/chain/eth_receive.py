"""Starts a run whenever an address receives native coin.

Coin that contracts move within a transaction leaves no log. It is found in the traces of the block if an endpoint
answers `debug_traceBlockByHash`; else only what transactions send themselves is found. The payload's `foundIn` says
which it was. `traces: require` waits for traces rather than miss anything. Every block's transactions are read, so
catching up after a long downtime takes longer than with tokens.
"""

from __future__ import annotations

from dustrun.core.triggers.chain.watch import ChainWatch
from dustrun.sdk.trigger import chain
from dustrun.triggers._event_output import example_output
from dustrun.triggers.chain.native_moves import EXAMPLE_CONFIG, INCOMING, MoveConfig, MoveOutput, check, watch_moves


class Config(MoveConfig):
    """Which moves start a run."""


class Output(MoveOutput):
    """One move of native coin."""


@chain(
    config=Config,
    output=Output,
    check=check,
    example_config=EXAMPLE_CONFIG,
    example_output=example_output(INCOMING, "eth-receive"),
)
def watch(config: Config) -> ChainWatch:
    """Keeps the moves to the addresses."""
    return watch_moves(config, "to")
