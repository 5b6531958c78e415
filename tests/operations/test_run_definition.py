"""A run's definition is masked once for all who read a run of its version."""

from __future__ import annotations

from dustrun.core.workflow.definition import Definition
from dustrun.services.workflows.compiled import CompiledWorkflow, show_definition

DEFINITION = Definition.model_validate(
    {
        "nodes": {
            "root": {"type": "manual", "children": ["ask"]},
            "ask": {"type": "http-request", "payload": {"url": "https://a.example", "password": "opensesame"}},
        },
        "triggerNodeIds": ["root"],
    }
)


def test_the_shown_definition_is_masked_and_kept() -> None:
    compiled = CompiledWorkflow(DEFINITION, (), None, {})
    shown = compiled.shown()
    assert shown["nodes"]["ask"]["payload"] == {"url": "https://a.example", "password": "***"}
    assert compiled.shown() is shown
    assert (show_definition(DEFINITION), list(shown)) == (shown, ["nodes", "triggerNodeIds"])
