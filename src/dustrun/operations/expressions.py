"""`/v1/expressions/evaluate`: what an expression would give in a run that has happened."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, StringConstraints

from dustrun.core.values.fields import Fields
from dustrun.errors import Code
from dustrun.operations.declaration.answers import Answer
from dustrun.operations.declaration.fields import Text
from dustrun.operations.declaration.operation import Noun
from dustrun.operations.declaration.parts import Call
from dustrun.services.runs.expressions import Evaluation

noun = Noun("Runs")

_PATH = r"^([^.\[\]]+\[[0-9]{1,9}\]\.)*[^.\[\]]*$"


class EvaluateExpression(Fields):
    """A template, and where it is looked at."""

    template: Annotated[Text, StringConstraints(max_length=65_536)] = Field(
        description="Text with `{{ … }}`, as in the payload of a node.", examples=["{{$trigger.body.amount * 2}} USDC"]
    )
    run_id: str = Field(description="Id of the run whose values it sees.", max_length=128)
    path: Annotated[Text, StringConstraints(pattern=_PATH, max_length=1000)] = Field(
        "", description="Path of the node that would evaluate it, such as `each[3].pay`: which items of loops it sees."
    )
    is_expression: bool = Field(
        False, description="Whether it is an expression without braces, as the condition of an `if`."
    )


class ExpressionProblem(Answer):
    """Why a template gives nothing."""

    message: str
    line: int
    column: int


class EvaluatedAnswer(Answer):
    """The value of the template."""

    value: Any = Field(description="The value; null too if there is an error.")
    error: ExpressionProblem | None


def _shape(found: Evaluation) -> dict[str, Any]:
    error = found.error
    problem = None if error is None else {"message": error.message, "line": error.line, "column": error.column}
    return {"value": found.value, "error": problem}


@noun.post(
    "/v1/expressions/evaluate",
    permission="run:read",
    answers=EvaluatedAnswer,
    shape=_shape,
    refusals=[Code.RUN_UNKNOWN],
    example={"template": "{{$trigger.body.amount * 2}} USDC", "runId": "run_01m8brt9hae4de3w6f0w3c1rmr", "path": "pay"},
)
async def evaluate_expression(call: Call, body: EvaluateExpression) -> Evaluation:
    """Evaluate a template with the values of a run that has happened.

    It sees results as they are stored, with secrets masked, and neither `$env` nor `$vars`; its work and the size of
    its result are limited. Nothing is started or changed. A template that gives nothing is answered with an `error`.
    """
    return await call.parts.expressions.evaluate(
        call.principal, body.template, body.run_id, body.path, is_expression=body.is_expression
    )
