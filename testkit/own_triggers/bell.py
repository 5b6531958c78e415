"""Starts a run when a test rings it."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field

from dustrun.sdk import Fields, TriggerConfig
from dustrun.sdk.trigger import webhook


class Config(TriggerConfig):
    """Which bell."""

    name: str = Field("door", description="The bell's name.")


class Output(Fields):
    """What was rung."""

    model_config = ConfigDict(extra="allow")

    body: dict[str, Any] = Field(description="The whole payload.")


@webhook(config=Config, output=Output, example_config={}, example_output={"body": {"n": 1}})
def accept(config: Config, payload: dict[str, Any]) -> dict[str, Any]:
    """Returns the payload."""
    return payload
