"""Fires at every multiple of a time."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field

from dustrun.sdk import Fields, TriggerConfig
from dustrun.sdk.trigger import timed


class Config(TriggerConfig):
    """How often."""

    every_ms: int = Field(60_000, gt=0, description="Milliseconds between two fires.")


class Output(Fields):
    """Nothing but what every trigger has."""

    model_config = ConfigDict(extra="allow")

    body: dict[str, Any] = Field(description="The whole payload.")


@timed(config=Config, output=Output, example_config={}, example_output={"body": {}})
def next_fire(config: Config, after_ms: int, cursor: Any) -> int | None:
    """The next multiple."""
    del cursor
    return (after_ms // config.every_ms + 1) * config.every_ms
