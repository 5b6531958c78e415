"""Real events for the test of a trigger: what the world shows now, within bounds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final, Protocol

from dustrun.errors import DustrunError
from dustrun.records import dataclass
from dustrun.sdk.trigger import Trigger, TriggerContext
from dustrun.services.access.principal import Principal

_WITHIN_S: Final = 15.0
_LISTENS_S: Final = 5.0
_MAY_ASK: Final = "run:inline"


@dataclass(frozen=True, slots=True)
class Recent:
    """The payload of the newest event that was found, or why there is none; `note` is for people."""

    payload: Any
    note: str


class FindsRecent(Protocol):
    """Finds the newest real event of one kind of trigger."""

    async def recent(self, context: TriggerContext, trigger: Trigger, config: Any) -> Recent:
        """Looks within bounds; `payload` None: there is none. Raises `DustrunError`."""
        ...


class RecentOfSources:
    """Asks the source of a polled trigger."""

    async def recent(self, context: TriggerContext, trigger: Trigger, config: Any) -> Recent:
        """What the source shows now."""
        if trigger.recent is None:
            return Recent(None, "The type has no way to find one.")
        found = await trigger.recent(context, config)
        return Recent(found, "The source has none." if found is None else "As the source shows it now.")


class NextOfStreams:
    """Listens to a stream for a moment."""

    async def recent(self, context: TriggerContext, trigger: Trigger, config: Any) -> Recent:
        """The first event that comes; nothing is acknowledged."""
        if trigger.listen is None or not trigger.peeks:
            return Recent(None, "To listen would take events away from those who wait for them.")
        source = trigger.listen(context, config, None)
        try:
            async with asyncio.timeout(_LISTENS_S):
                async for received in source:
                    if received.events:
                        return Recent(dict(received.events[0].payload), "As it has just come.")
        except TimeoutError:
            return Recent(None, f"The source works; nothing came within {_LISTENS_S:g} s.")
        finally:
            if isinstance(source, AsyncGenerator):
                await source.aclose()
        return Recent(None, "The source has closed the connection.")


async def find(
    finders: Mapping[str, FindsRecent], principal: Principal, context: TriggerContext, trigger: Trigger, config: Any
) -> Recent | None:
    """The newest real event, or why there is none; None if a trigger of this kind is not looked for. A test of a polled
    trigger sends its request, so it needs the permission to do that."""
    finder = finders.get(trigger.kind)
    if finder is None:
        return None
    if trigger.kind in ("polled", "streamed") and not principal.may(_MAY_ASK):
        return Recent(None, f'The source was not asked: the key lacks the permission "{_MAY_ASK}".')
    try:
        async with asyncio.timeout(_WITHIN_S):
            return await finder.recent(context, trigger, config)
    except TimeoutError:
        return Recent(None, f"Nothing was found within {_WITHIN_S:g} s.")
    except DustrunError as error:
        return Recent(None, f"None could be found: {error.message}")
