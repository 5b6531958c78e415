"""Starts a run whenever an address sends a token.

It watches the token's `Transfer` events, so it sees transfers within other transactions too, and those by a spender
with an allowance.
Amounts are exact, in base units: of a token with 6 decimals, `1000000` is one. A transfer of nothing counts unless
`minAmount` is at least 1.
"""

from __future__ import annotations

from dustrun.core.triggers.chain.watch import ChainWatch
from dustrun.sdk.trigger import chain
from dustrun.triggers._event_output import example_output
from dustrun.triggers.chain.erc20_transfers import (
    EXAMPLE_CONFIG,
    OUTGOING,
    TransferConfig,
    TransferOutput,
    check,
    watch_transfers,
)


class Config(TransferConfig):
    """Which transfers start a run."""


class Output(TransferOutput):
    """One transfer."""


@chain(
    config=Config,
    output=Output,
    check=check,
    example_config=EXAMPLE_CONFIG,
    example_output=example_output(OUTGOING, "erc20-send"),
)
def watch(config: Config) -> ChainWatch:
    """Asks for the transfers from the addresses."""
    return watch_transfers(config, "from")
