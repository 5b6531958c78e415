"""A source: one thing outside of a run that can change what the run does. Its text is how every surface names it.

    definition:<workflow>@<version>#<node>.<field>   trigger:<type>.<path>        props:<key>
    http:<host>   model:<connector>   mcp:<connector>   connector:<id>            system:<node type>   import:<api>
    chain:<id>    contract:<chain>/<address>          price:<chain>
    variable:<workflow>/<name>        table:<name>    workflow:<workflow>.name
    approval:<workflow>@<version>#<node>[.comment]    resume:<workflow>@<version>#<node>
    env:<name>    setting:<name>      clock           run           result:<run>#<path>

`*` stands for one that only the run knows, so for all of that kind.
"""

from __future__ import annotations

import json
import re
from typing import Final

from dustrun.records import dataclass

ANY: Final = "*"
_BEFORE_PATH: Final = {
    "definition": "#",
    "approval": "#",
    "resume": "#",
    "result": "#",
    "trigger": ".",
    "workflow": ".",
    "contract": "/",
    "variable": "/",
}
_NAMELESS: Final = frozenset({"clock", "run"})
KINDS: Final = frozenset(
    (
        *_BEFORE_PATH,
        *_NAMELESS,
        "props",
        "http",
        "model",
        "mcp",
        "connector",
        "import",
        "system",
        "chain",
        "price",
        "table",
    )
) | {"env", "setting"}
_STEP: Final = re.compile(r"""\.?([A-Za-z_$][\w$-]*|\*)|\[("(?:[^"\\]|\\.)*"|[0-9]+)\]""")
_PLAIN: Final = re.compile(r"[A-Za-z_$][\w$-]*|\*")


@dataclass(frozen=True, slots=True)
class Source:
    """`kind` and `name` as in the text; `path`: node and field of a definition, steps into a trigger's event, an
    address, the name of a variable."""

    kind: str
    name: str = ""
    path: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.kind in _NAMELESS:
            return self.kind
        text = f"{self.kind}:{self.name}"
        if not self.path:
            return text
        if self.kind == "trigger":
            return text + "".join(_step(one) for one in self.path)
        return text + _BEFORE_PATH[self.kind] + ".".join(self.path)

    @property
    def workflow(self) -> str | None:
        """The workflow of a definition, variable, approval, resume or name."""
        if self.kind in ("definition", "approval", "resume", "variable", "workflow"):
            return self.name.rpartition("@")[0] or self.name
        return None

    @property
    def version(self) -> int | None:
        """The version of a definition, approval or resume."""
        number = self.name.rpartition("@")[2]
        return int(number) if self.kind in ("definition", "approval", "resume") and number.isdecimal() else None

    @property
    def node(self) -> str | None:
        """The node of a definition, approval or resume, as its id."""
        return self.path[0] if self.path and self.kind in ("definition", "approval", "resume") else None

    def covers(self, other: Source) -> bool:
        """Whether it is the other source, or a whole of which the other is a part."""
        if self.kind != other.kind or self.name not in (other.name, ANY):
            return False
        return self.path in ((ANY,), other.path[: len(self.path)])


def parse_source(text: str) -> Source:
    """Reads the text of a source; raises `ValueError` when its kind is unknown."""
    kind, _, rest = text.partition(":")
    if kind not in KINDS:
        raise ValueError(f'"{text}" is not a source: it begins with none of {", ".join(sorted(KINDS))}')
    before = _BEFORE_PATH.get(kind)
    if before is None or kind in _NAMELESS:
        return Source(kind, rest)
    if kind == "trigger":
        at = re.search(r"[.\[]", rest)
        steps = _STEP.findall(rest[at.start() :]) if at else ()
        return Source(kind, rest[: at.start()] if at else rest, tuple(_read_step(*one) for one in steps))
    name, found, path = rest.partition(before)
    parts = tuple(path.split(".", 1)) if before == "#" and kind != "result" else (path,)
    return Source(kind, name, parts if found else ())


def _step(step: str) -> str:
    return f".{step}" if _PLAIN.fullmatch(step) else f"[{step}]" if step.isdecimal() else f"[{json.dumps(step)}]"


def _read_step(plain: str, quoted: str) -> str:
    return plain or (json.loads(quoted) if quoted.startswith('"') else quoted)
