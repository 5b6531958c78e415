"""How much of what clients of other platforms ask for is answered here, by `coverage.tsv`.

A line is an operation that such clients know: method, path, state, the operation here that answers it, and a note.
`same`: the same path and the same names of fields, for what there is here. `other`: the same path, with other fields.
`renamed`: another path does it. `missing`: nothing does it yet. `left out`: it has no meaning here; the note says why.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TABLE = Path(__file__).with_name("coverage.tsv")
DOCUMENT = Path(__file__).parents[2] / "docs" / "reference" / "openapi.json"
ANSWERED = ("same", "other", "renamed")
STATES = (*ANSWERED, "missing", "left out")
_PARAMETER = re.compile(r"\{\w+\}")


@dataclass(frozen=True)
class Known:
    """One operation that clients know."""

    method: str
    path: str
    state: str
    here: str = ""
    note: str = ""

    @property
    def place(self) -> str:
        """Method and path, whatever its parameters are called."""
        return f"{self.method} {_PARAMETER.sub('{}', self.path)}"


def read(text: str) -> list[Known]:
    """The lines of the table."""
    return [Known(*line.split("\t")) for line in text.splitlines()]


def operations_here(document: Mapping[str, Mapping[str, Mapping[str, str]]]) -> dict[str, str]:
    """Method and path of each operation of our document, by its id."""
    return {
        operation["operationId"]: Known(method.upper(), path, "").place
        for path, methods in document.items()
        for method, operation in methods.items()
    }


def faults(known: Sequence[Known], here: Mapping[str, str]) -> Iterator[str]:
    """What the table says that is not so."""
    places = Counter(one.place for one in known)
    yield from (f"{place}: there {count} times" for place, count in places.items() if count > 1)
    for one in known:
        fault = _fault(one, here)
        if fault is not None:
            yield f"{one.method} {one.path}: {fault}"


def _fault(one: Known, here: Mapping[str, str]) -> str | None:
    answered = one.state in ANSWERED
    if one.state not in STATES:
        return f'"{one.state}" is none of {", ".join(STATES)}'
    if answered and one.here not in here:
        return f'our document has no operation "{one.here}"'
    if answered and (here[one.here] == one.place) is (one.state == "renamed"):
        return f"{one.here} is {here[one.here]}, so it is not {one.state}"
    if one.state == "left out" and (not one.note or one.place in here.values()):
        return "say why it is left out" if not one.note else "our document has it, so it is not left out"
    return None


def main(arguments: Sequence[str]) -> int:
    """Prints the counts, and with `--missing` what is missing; 1 if the table says what is not so."""
    known = read(TABLE.read_text())
    count = Counter(one.state for one in known)
    answered = sum(count[state] for state in ANSWERED)
    parts = ", ".join(f"{count[state]} {state}" for state in STATES)
    print(f"{len(known)} operations, {answered} of them answered: {parts}")
    here = operations_here(json.loads(DOCUMENT.read_text())["paths"])
    if "--missing" in arguments:
        new = {True: "  (our document has it now: say how it answers)", False: ""}
        missing = (one for one in known if one.state == "missing")
        print("".join(f"{one.method} {one.path}{new[one.place in here.values()]}\n" for one in missing), end="")
    wrong = list(faults(known, here))
    print("".join(f"{fault}\n" for fault in wrong), end="", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
