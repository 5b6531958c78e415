"""The contract of a trigger, which starts runs. `manual` is the only kind so far."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel


@dataclass(frozen=True, slots=True)
class Trigger:
    """One trigger type. `type` is set from the file name when it is discovered."""

    kind: str
    config: type[BaseModel]
    output: type[BaseModel]
    accept: Callable[[Any, Any], Any]
    example_config: dict[str, Any]
    example_output: dict[str, Any]
    type: str = ""
    summary: str = ""
    description: str = ""


def manual(
    *,
    config: type[BaseModel],
    output: type[BaseModel],
    example_config: dict[str, Any],
    example_output: dict[str, Any],
) -> Callable[[Callable[[Any, Any], Any]], Trigger]:
    """Declares a trigger fired by a caller: `accept(config, payload)` returns the payload or raises `Invalid`."""

    def declare(accept: Callable[[Any, Any], Any]) -> Trigger:
        return Trigger(
            kind="manual",
            config=config,
            output=output,
            accept=accept,
            example_config=example_config,
            example_output=example_output,
        )

    return declare
