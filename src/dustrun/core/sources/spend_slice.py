"""The slice of a spend: the sources of each of its money fields, and of whether it happens at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property

from dustrun.core.sources.endorsement import shown_fields
from dustrun.core.sources.inputs import computed_fields, money_fields
from dustrun.core.sources.slicer import Bits, ClosedPrograms, Place, Slicer
from dustrun.core.sources.source import Source
from dustrun.core.workflow.specs import Specs


class SpendSlice:
    """The sources of one spending node, on three levels that are never mixed. `fields`: what can change a money field
    (`recipient`, `amount`, `asset`, `chain`, `calldata`, `limits`, `wallet`). `decides`: what chooses whether or how
    often it happens. `stops`: what can only prevent it. Sets stay bits until they are asked for; `bits` has the ones of
    the fields, `deciding` that of `decides`, to judge many spends with `Bits.where`.
    """

    def __init__(self, slicer: Slicer, place: Place, bits: Mapping[str, int], deciding: int) -> None:
        self.place = place
        self.type = slicer.node(place).node.type
        self.bits = bits
        self.deciding = deciding
        self.names: Bits = slicer.bits
        self._slicer = slicer

    @cached_property
    def fields(self) -> Mapping[str, frozenset[Source]]:
        """The sources of each money field."""
        return {money: self.names.named(bits) for money, bits in self.bits.items()}

    @cached_property
    def data(self) -> frozenset[Source]:
        """The sources of all money fields."""
        return frozenset().union(*self.fields.values())

    @cached_property
    def decides(self) -> frozenset[Source]:
        """The sources that choose whether it happens, or how often."""
        return self.names.named(self.deciding)

    @cached_property
    def stops(self) -> frozenset[Source]:
        """The sources that can fail or end the run before it, those that decide included."""
        return self.names.named(self._slicer.stops(self.place))

    @cached_property
    def shown(self) -> Mapping[Source, frozenset[str]]:
        """The `approve` nodes that must be approved before it, each with the money fields that its message shows."""
        key, node_id = self.place
        found = shown_fields(self._slicer.closed.programs[key], node_id)
        return {Source("approval", key, (approve,)): fields for approve, fields in found.items()}


def slices_of(closed: ClosedPrograms, specs: Specs) -> list[SpendSlice]:
    """The slice of every spending node of a closure; with `ran`, of those that ran."""
    slicer = Slicer(closed, specs)
    list(_slices(slicer))  # asks for sets that no node needed
    slicer.settle()
    return list(_slices(slicer))


def _slices(slicer: Slicer) -> Iterator[SpendSlice]:
    for place in slicer.spends:
        if slicer.closed.ran is None or place in slicer.closed.ran:
            deciding = slicer.decides(place) | slicer.bits.bit("definition", slicer.closed.root)
            yield SpendSlice(slicer, place, _fields_of(slicer, place), deciding)


def _fields_of(slicer: Slicer, place: Place) -> dict[str, int]:
    node, found = slicer.node(place), dict[str, int]()
    inputs = [(money, steps) for money, steps in money_fields(node.spec, node.node.payload)]
    for money, steps in inputs:
        bits = slicer.refs(place, steps) | slicer.written(place, steps[0])
        found[money] = found.get(money, 0) | bits
    unnamed = slicer.unnamed(place, [steps for _, steps in inputs])
    if unnamed:
        found["calldata"] = found.get("calldata", 0) | unnamed
    found["wallet"] = slicer.wallet(place)
    for money in {one for given in slicer.given(place) for one in computed_fields(node.spec, given)}:
        found[money] = found.get(money, 0) | slicer.computed(place)
    return found
