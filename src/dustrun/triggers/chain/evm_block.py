"""Starts a run at every Nth block of a chain.

Blocks count whose number is a multiple of `every`. A block that replaces another at the same height starts no second
run.
"""

from __future__ import annotations

from pydantic import Field

from dustrun.core.triggers.chain.watch import ChainWatch
from dustrun.sdk.trigger import Finding, TriggerContext, chain
from dustrun.triggers._event_output import example_output
from dustrun.triggers.chain.chain_config import BLOCK, ChainConfig, ChainOutput, check_watched


class Config(ChainConfig):
    """Which blocks start a run."""

    every: int = Field(1, ge=1, le=10_000_000, description="Every how many blocks.")


class Output(ChainOutput):
    """One block."""


async def _check(ctx: TriggerContext, config: Config) -> list[Finding]:
    return await check_watched(ctx, config)


@chain(
    config=Config,
    output=Output,
    check=_check,
    example_config={"chainId": 1, "every": 100},
    example_output=example_output(BLOCK, "evm-block"),
)
def watch(config: Config) -> ChainWatch:
    """Keeps every Nth block."""
    return ChainWatch(**config.watched, every=config.every)
