"""`/v1/workflows/apply`: a folder of workflow files, applied at once."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from pydantic import ValidationError

from dustrun.core.validate.ignored import ignored_fields
from dustrun.errors import Code, Invalid, Problem
from dustrun.operations.declaration.operation import Noun
from dustrun.operations.declaration.parts import Call
from dustrun.operations.shapes.workflows import AppliedAnswer, ApplyFile, ApplyFiles, WorkflowContent, applied_shape
from dustrun.operations.workflows import new_workflow
from dustrun.services.problems import errors_in, problems_of
from dustrun.services.workflows import import_export
from dustrun.services.workflows.files import AppliedFiles, WorkflowFile

noun = Noun("Workflows")


@noun.post(
    "/v1/workflows/apply",
    permission="workflow:create",
    reads="workflow:read",
    needed=["dryRun", "digest", "changes", "path", "action"],
    answers=AppliedAnswer,
    shape=applied_shape,
    refusals=[Code.DEFINITION_INVALID, Code.STATE_CONFLICT, Code.VERSION_MOVED],
    example={
        "files": [
            {"path": "hello.yaml", "content": "name: Hello\ndefinition: {nodes: {root: {type: manual}}}\n"},
        ],
        "dryRun": True,
    },
)
async def apply_files(call: Call, body: ApplyFiles) -> AppliedFiles:
    """Make the workflows those of the files.

    A file's workflow is found by its name, and created if there is none; everything happens in one transaction or not
    at all. Settings that a file does not have get their defaults. Nothing is published or run. References are bound to
    the objects whose names are their `target`, other files' workflows included. Needs `workflow:update` as well, and
    `workflow:delete` with `prune`.
    """
    read = await asyncio.to_thread(lambda: [_read(file) for file in body.files])
    files = [file for file, _ in read]
    call.ignored += [one for _, ignored in read for one in ignored]
    return await call.parts.workflow_files.apply(
        call.principal, files, prune=body.prune, dry_run=body.dry_run, expected=body.expected_digest
    )


def _read(file: ApplyFile) -> tuple[WorkflowFile, list[Problem]]:
    """Reads any of the three forms, and what it ignores; raises `Invalid` that names the file."""
    try:
        parsed = _parse(file.content)
        content = {"name": PurePath(file.path).stem, "description": "", **parsed.document}
        body = WorkflowContent.model_validate(content)
    except ValidationError as error:
        found = errors_in(error, content, WorkflowContent.model_validate)
        raise _of_file(file, problems_of(found, model=WorkflowContent)) from None
    except Invalid as error:
        raise _of_file(file, error.details) from None
    ignored = [replace(one, field=f"{file.path}: {one.field}") for one in ignored_fields(body)]
    return WorkflowFile(file.path, new_workflow(body), parsed.references), ignored


def _parse(text: str) -> import_export.ParsedFile:
    document = import_export.load(text)
    if not isinstance(document, dict) or "dustrunWorkflow" in document:
        return import_export.parse(text)
    if "definition" not in document:
        return import_export.ParsedFile({"definition": document}, [])
    document.pop("payload", None)  # an example for the trigger
    return import_export.ParsedFile(document, import_export.references_of(document))


def _of_file(file: ApplyFile, details: Any) -> Invalid:
    told = [Problem(f"{file.path}: {one.field}", one.message, one.code, one.node_id) for one in details]
    return Invalid("A file is not a workflow.", details=told)
