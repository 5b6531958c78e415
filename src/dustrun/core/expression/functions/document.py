"""Renders the function table as Markdown for `docs/reference/expressions.md`; a test compares them."""

from __future__ import annotations

from dustrun.core.expression.functions import GROUPS
from dustrun.core.expression.functions.table import FunctionGroup, FunctionSpec

BEGIN = "<!-- functions: generated from the code, do not edit -->"
END = "<!-- end of functions -->"


def function_table() -> str:
    """Every function with its signature, a description, an example and the example's JSON result."""
    return "\n\n".join(map(_section, GROUPS))


def _section(group: FunctionGroup) -> str:
    title = "CEL's own" if group.name == "CEL" else group.name
    rows = [_row(spec) for spec in group.functions.values()]
    return "\n".join(
        [f"### {title}", "", "| Function | What it gives | Example | Result |", "|---|---|---|---|", *rows]
    )


def _row(spec: FunctionSpec) -> str:
    cells = (
        _code(spec.signature),
        _plain(spec.line),
        _code(spec.expected.example),
        _code(_short(spec.expected.result)),
    )
    return "| " + " | ".join(cells) + " |"


def _short(text: str) -> str:
    return text if len(text) <= 70 else text[:66] + "…" + text[-3:]


def _code(text: str) -> str:
    marks = "``" if "`" in text else "`"
    space = " " if "`" in text else ""
    return f"{marks}{space}{_plain(text)}{space}{marks}"


def _plain(text: str) -> str:
    return text.replace("|", "\\|")
