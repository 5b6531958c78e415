"""Which messages of a numbered stream are on record, so that what is gone before it was delivered can be told."""

from __future__ import annotations

from typing import Any, Final

from dustrun.records import dataclass

_MOST_RANGES: Final = 200


@dataclass(slots=True)
class Sequences:
    """All up to `floor` are done with. `taken`: ranges above it, in order, first and last. `created`: when the stream
    was made, as it says; `at`: the time of the newest message that was taken, in milliseconds."""

    floor: int
    taken: list[list[int]]
    created: str | None = None
    at: int | None = None

    @classmethod
    def read(cls, stored: Any) -> Sequences | None:
        """The place in a cursor; None if it has none."""
        if not stored or "floor" not in stored:
            return None
        return cls(stored["floor"], [list(one) for one in stored["taken"]], stored["created"], stored["at"])

    def stored(self) -> dict[str, Any]:
        """As a cursor."""
        taken = [list(one) for one in self.taken]
        return {"floor": self.floor, "taken": taken, "created": self.created, "at": self.at}

    def take(self, number: int, at: int) -> None:
        """A message is taken."""
        self.at = at if self.at is None else max(self.at, at)
        if number <= self.floor or any(first <= number <= last for first, last in self.taken):
            return
        merged: list[list[int]] = []
        for first, last in sorted([*self.taken, [number, number]]):
            if merged and first <= merged[-1][1] + 1:
                merged[-1][1] = max(last, merged[-1][1])
            else:
                merged.append([first, last])
        if len(merged) > _MOST_RANGES:  # what lies between the oldest is not told then, if it is gone
            merged[:2] = [[merged[0][0], merged[1][1]]]
        self.taken = merged
        self.settle(self.floor)

    def settle(self, floor: int) -> None:
        """Nothing up to a number is to be waited for any more."""
        self.floor = max(self.floor, floor)
        self.taken = [one for one in self.taken if one[1] > self.floor]
        while self.taken and self.taken[0][0] <= self.floor + 1:
            self.floor = max(self.floor, self.taken.pop(0)[1])

    def gone(self, first: int) -> tuple[int, int, int] | None:
        """The messages lost below the first one that the stream still has: first, last, how many."""
        missing, number = [], self.floor + 1
        for start, end in [*self.taken, [first, first]]:
            if number < min(start, first):
                missing.append((number, min(start, first) - 1))
            number = max(number, end + 1)
        if not missing:
            return None
        return missing[0][0], missing[-1][1], sum(last - start + 1 for start, last in missing)
