"""Calls a real server through the client of openapi-python-client: creates a workflow, gets it, runs it, lists its
runs and reads the stream. Prints what the test compares."""

import json
import os
from typing import TypeVar

from dustrun_client import AuthenticatedClient
from dustrun_client.api.runs import list_runs, run_workflow
from dustrun_client.api.streams import stream_run
from dustrun_client.api.workflows import create_workflow, get_workflow
from dustrun_client.models import CreateWorkflow, Failure, RunBody

Answer = TypeVar("Answer")
DEFINITION = {"nodes": {"root": {"type": "manual"}}, "triggerNodeIds": ["root"]}


def succeeded(answer: Answer | Failure | None) -> Answer:
    """The answer, if it is none of an error."""
    assert answer is not None
    assert not isinstance(answer, Failure), answer.message
    return answer


client = AuthenticatedClient(os.environ["DUSTRUN_SERVER"], os.environ["DUSTRUN_API_KEY"])
body = CreateWorkflow.from_dict({"name": "From Python", "description": "", "definition": DEFINITION})
created = succeeded(create_workflow.sync(client=client, body=body))
read = succeeded(get_workflow.sync(created.data.id, client=client))
run = succeeded(run_workflow.sync(created.data.id, client=client, body=RunBody()))
text = succeeded(stream_run.sync(run.data.run_id, client=client))
assert isinstance(text, str)
runs = succeeded(list_runs.sync(client=client, workflow_id=created.data.id))
missing = get_workflow.sync("wf_01m8brt9hae4de3w6f0w3c1rmr", client=client)
assert isinstance(missing, Failure)

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
