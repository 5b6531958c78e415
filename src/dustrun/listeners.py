"""Who is told of what happens in a part: the composition root says who listens to what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, ParamSpec

P = ParamSpec("P")


class Listeners(list[Callable[P, None]], Generic[P]):
    """Those who are told of one kind of event, in the order in which they were appended."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Tells all of them."""
        for listener in self:
            listener(*args, **kwargs)
