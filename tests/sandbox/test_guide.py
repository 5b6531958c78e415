from __future__ import annotations

import re
from pathlib import Path

import pytest

from dustrun.core.values import exact_json
from sandbox.limits_in_tests import Run

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "code-transform.md"
EXAMPLE = re.compile(r"```json given\n(.*?)```\s+```js code\n(.*?)```\s+```json gives\n(.*?)```", re.DOTALL)
EXAMPLES = EXAMPLE.findall(GUIDE.read_text())


def test_guide_has_examples() -> None:
    assert len(EXAMPLES) == 2


@pytest.mark.parametrize(("given", "code", "gives"), EXAMPLES)
async def test_example_of_the_guide_is_true(run: Run, given: str, code: str, gives: str) -> None:
    assert (await run(code, exact_json.loads(given))).value == exact_json.loads(gives)
