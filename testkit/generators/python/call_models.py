"""Calls a real server with the models of datamodel-code-generator: creates a workflow, gets it, runs it, lists its
runs and reads the stream. Prints what the test compares."""

import json
import os
from typing import TypeVar

import httpx
from dustrun_models import (
    CreateWorkflow,
    Definition,
    EnvelopeRunIdAnswer,
    EnvelopeRunPageAnswer,
    EnvelopeWorkflowAnswer,
    Failure,
    Node,
    RunBody,
)
from pydantic import BaseModel

Model = TypeVar("Model", bound=BaseModel)
headers = {"Authorization": f"Bearer {os.environ['DUSTRUN_API_KEY']}", "Content-Type": "application/json"}
http = httpx.Client(base_url=os.environ["DUSTRUN_SERVER"], headers=headers)


def ask(answer: type[Model], method: str, path: str, body: BaseModel | None = None) -> Model:
    """One request, and its answer as a model."""
    content = None if body is None else body.model_dump_json(by_alias=True, exclude_unset=True)
    return answer.model_validate_json(http.request(method, path, content=content).content)


definition = Definition(nodes={"root": Node(type="manual")})
body = CreateWorkflow(name="From Python", description="", definition=definition)
created = ask(EnvelopeWorkflowAnswer, "POST", "/v1/workflows", body)
workflow = f"/v1/workflows/{created.data.id}"
read = ask(EnvelopeWorkflowAnswer, "GET", workflow)
run = ask(EnvelopeRunIdAnswer, "POST", f"{workflow}/run", RunBody())
text = http.get(f"/v1/runs/{run.data.run_id}/stream").text
runs = ask(EnvelopeRunPageAnswer, "GET", f"/v1/runs?workflowId={created.data.id}")
missing = ask(Failure, "GET", "/v1/workflows/wf_01m8brt9hae4de3w6f0w3c1rmr")

print(
    json.dumps(
        {
            "name": read.data.name,
            "runs": [[one.id == run.data.run_id, one.status.value] for one in runs.data.items],
            "last": "event: run_finished" in text,
            "code": missing.code,
        }
    )
)
