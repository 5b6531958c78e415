"""Problems of a definition, and request fields that were ignored, as answers list them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import Field

from dustrun.errors import Problem
from dustrun.operations.declaration.answers import ADDED, Answer


class ValidationItem(Answer):
    """One problem of a definition."""

    code: str
    type: Literal["name", "nodes", "root", "connectivity", "pattern", "variable"]
    message: str
    node_id: str | None = None
    field: str | None = None
    start: int | None = Field(
        None, description="The first character that is meant, of the field's text from 0; absent if all of it is."
    )
    end: int | None = Field(None, description="The character behind the last one that is meant.")


class Ignoring(Answer):
    """An answer that names what it ignored of the request."""

    warnings: Annotated[list[ValidationItem], ADDED] = Field(
        default_factory=list, description="Fields of the request that were accepted and ignored; absent without any."
    )


_CONNECTIVITY = ("cycle", "unreachable", "unknown_child", "two_scopes", "branch")


def _finding_type(problem: Problem) -> str:
    code = problem.code or ""
    if problem.field == "name":
        return "name"
    if problem.field.startswith("triggerNodeIds"):
        return "root"
    if problem.field.startswith("variableDefs") or "variable" in code:
        return "variable"
    if any(word in code for word in _CONNECTIVITY):
        return "connectivity"
    return "nodes" if problem.field.startswith("nodes") else "pattern"


def finding_shape(problem: Problem) -> dict[str, Any]:
    """Shapes one problem."""
    found = {"code": problem.code or "invalid", "type": _finding_type(problem), **problem.public()}
    return found if problem.code else {**found, "code": "invalid"}


def with_warnings(data: Any, ignored: Iterable[Problem]) -> Any:
    """The data of an answer, with what was ignored of its request."""
    found = [finding_shape(problem) for problem in ignored]
    return {**data, "warnings": [*data.get("warnings", ()), *found]} if found and isinstance(data, dict) else data
