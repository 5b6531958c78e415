"""Finds the amounts in a spend action's input by its declared paths, following arrays."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from dustrun.core.money.intent import FundsMovement
from dustrun.records import dataclass

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Unknown:
    """Placeholder for a value that is unknown before the run; `why` is shown to people."""

    why: str


@dataclass(frozen=True, slots=True)
class Spot:
    """One amount in an input with its related values: values as given, None where absent, and the paths of the amount
    and its limits.
    """

    movement: FundsMovement
    amount_path: Path
    amount: Any
    chain: Any
    token: Any
    recipient: Any
    min_out_path: Path | None
    min_out: Any
    max_in_path: Path | None
    max_in: Any
    approval_path: Path | None
    approval: Any

    @property
    def field(self) -> str:
        """The amount's path for messages: `rows[3].amount`."""
        return show_path(self.amount_path)


def find_spots(movement: FundsMovement, wire: Mapping[str, Any]) -> list[Spot]:
    """Every amount in an input that a declared movement names; null ones are skipped."""
    if movement.amount_field is None:
        return []
    return [
        _spot(movement, wire, path, indices, amount)
        for path, indices, amount in _follow(wire, _steps(movement.amount_field))
        if amount is not None and not _says_nothing(movement, wire, amount)
    ]


def _says_nothing(movement: FundsMovement, wire: Mapping[str, Any], amount: Any) -> bool:
    """Whether a zero stands only for what the author did not declare."""
    return movement.needs_field is not None and wire.get(movement.needs_field) is None and str(amount) == "0"


def _spot(movement: FundsMovement, wire: Mapping[str, Any], path: Path, indices: tuple[int, ...], amount: Any) -> Spot:
    def beside(field: str | None) -> tuple[Path | None, Any]:
        """The value of another field at the same array indices."""
        if field is None:
            return None, None
        at = _at_indices(_steps(field), indices)
        return at, _get(wire, at)

    min_out_path, min_out = beside(movement.min_out_field)
    max_in_path, max_in = beside(movement.max_in_field)
    approval_path, approval = beside(movement.approval_field)
    return Spot(
        movement=movement,
        amount_path=path,
        amount=amount,
        chain=beside(movement.chain_field)[1],
        token=beside(movement.token_field)[1],
        recipient=beside(movement.recipient_field)[1],
        min_out_path=min_out_path if min_out is not None else None,
        min_out=min_out,
        max_in_path=max_in_path if max_in is not None else None,
        max_in=max_in,
        approval_path=approval_path,
        approval=approval,
    )


def replace_at(wire: Mapping[str, Any], changes: Mapping[Path, Any]) -> dict[str, Any]:
    """A copy of an input with some values replaced."""
    changed = copy.deepcopy(dict(wire))
    for path, value in changes.items():
        *around, last = path
        place: Any = changed
        for step in around:
            place = place[step]
        place[last] = value
    return changed


def show_path(path: Path) -> str:
    """`rows[3].amount`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


_EACH = "[]"


def _steps(field: str) -> list[str]:
    """Splits `rows[].amount` into `rows`, each, `amount`."""
    steps: list[str] = []
    for part in field.split("."):
        name, *arrays = part.split(_EACH)
        steps += [name, *[_EACH for _ in arrays]]
    return steps


def _follow(value: Any, steps: list[str], path: Path = (), indices: tuple[int, ...] = ()) -> Iterator[Any]:
    """(path, indices, value) of every match of the steps; an unknown value ends its branch."""
    if isinstance(value, Unknown) or not steps:
        yield path, indices, value
        return
    step, *rest = steps
    if step == _EACH:
        for index, item in enumerate(value if isinstance(value, list | tuple) else ()):
            yield from _follow(item, rest, (*path, index), (*indices, index))
    elif isinstance(value, Mapping) and value.get(step) is not None:
        yield from _follow(value[step], rest, (*path, step), indices)


def _at_indices(steps: list[str], indices: tuple[int, ...]) -> Path:
    given = iter(indices)
    return tuple(next(given, 0) if step == _EACH else step for step in steps)


def _get(value: Any, path: Path) -> Any:
    for step in path:
        if isinstance(value, Unknown):
            return value
        if isinstance(step, int):
            value = value[step] if isinstance(value, list | tuple) and step < len(value) else None
        else:
            value = value.get(step) if isinstance(value, Mapping) else None
    return value
