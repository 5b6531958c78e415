"""Workflow files in editors: the language services of VS Code complete and check them by the published schema."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from dustrun import catalog
from dustrun.api.description import editor_schema
from dustrun.core.values import exact_json, exact_yaml
from dustrun.operations.shapes.workflows import WorkflowContent
from testkit.e2e.guide import ROOT
from testkit.e2e.node import npm_install
from testkit.editor import cases

FOLDER = ROOT / "testkit" / "editor"
LANGUAGES = ("json", "yaml")
CURSOR = "‸"


def _text(language: str, document: Any) -> str:
    return json.dumps(document, ensure_ascii=False) if language == "json" else exact_yaml.dumps(document)


def _judge(schema: Any, jobs: list[tuple[str, str]]) -> list[Any]:
    """What the language services say of each text, by its language."""
    asked = {"schema": schema, "jobs": [{"language": language, "text": text} for language, text in jobs]}
    environment = npm_install(FOLDER)
    command = ["node", "services.mjs"]
    done = subprocess.run(
        command, cwd=FOLDER, env=environment, input=json.dumps(asked), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found: list[Any] = json.loads(done.stdout)
    assert len(found) == len(jobs)
    return found


@pytest.fixture(scope="module")
def schema() -> Any:
    """What a server without types of its own publishes."""
    return json.loads(exact_json.dumps(editor_schema.build(catalog.load(), WorkflowContent)))


def test_examples_have_no_diagnostics_and_faults_are_marked_at_their_place(schema: Any) -> None:
    every = cases.of_every_type(catalog.load())
    good = [document for _, document in cases.examples()] + cases.DEFINITIONS + cases.FILES + [every]
    bad = cases.REFUSED_DEFINITIONS + cases.REFUSED_FILES
    documents = [*good, *(document for document, _ in bad)]
    judged = _judge(schema, [(language, _text(language, one)) for language in LANGUAGES for one in documents])
    for found in (judged[: len(documents)], judged[len(documents) :]):
        assert [one["diagnostics"] for one in found[: len(good)]] == [[] for _ in good]
        marked = [[about["text"].strip("\"'") for about in one["diagnostics"]] for one in found[len(good) :]]
        assert marked == [[text] for _, text in bad]


def test_types_payloads_and_files_are_completed_with_descriptions(schema: Any) -> None:
    node = {"json": '{"nodes": {"root": {"type": ‸}}}', "yaml": "nodes:\n  root:\n    type: ‸\n"}
    payload = {
        "json": '{"definition": {"nodes": {"a": {"type": "http-request", "payload": {‸}}}}}',
        "yaml": "definition:\n  nodes:\n    a:\n      type: http-request\n      payload:\n        ‸\n",
    }
    method = {
        "json": '{"nodes": {"a": {"type": "http-request", "payload": {"url": "", "method": ‸}}}}',
        "yaml": "nodes:\n  a:\n    type: http-request\n    payload:\n      url: ''\n      method: ‸\n",
    }
    file = {"json": '{"name": "A", ‸}', "yaml": "name: A\n‸\n"}
    known = schema["$defs"]
    kind = known["Node"]["properties"]["type"]
    types = dict(zip(kind["enum"], kind["enumDescriptions"], strict=True))
    fields = known["http-request"]["properties"]
    for language in LANGUAGES:
        jobs = [(language, one[language]) for one in (node, payload, method, file)]
        of_type, of_payload, of_method, of_file = [one["completions"] for one in _judge(schema, jobs)]
        assert {name: one["documentation"] for name, one in of_type.items()} == types
        told = {name: one["documentation"] for name, one in of_payload.items()}
        told.pop("http-request", None)  # the whole example, which the service for YAML offers too
        assert told == {name: about["description"] for name, about in fields.items()}
        assert "30000" in of_payload["timeoutMs"]["insertText"]
        assert "https://api.example.com/orders" in of_payload["url"]["insertText"]
        assert set(fields["method"]["anyOf"][0]["enum"]) <= set(of_method)
        assert {"description", "definition", "payload", "maxRuns", "references"} <= set(of_file)
        assert set(of_file) & {"conversationId", "uniqueName"} == set()
