"""Cache of compiled workflow versions: a version never changes, so it is compiled once."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import hashlib
from collections import OrderedDict
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from dustrun.catalog import Catalog
from dustrun.core import validate
from dustrun.core.values import exact_json
from dustrun.core.workflow.definition import Definition
from dustrun.core.workflow.program import Program, compile_program
from dustrun.core.workflow.specs import Specs
from dustrun.errors import Code, Invalid, Problem
from dustrun.log import mask_value
from dustrun.records import dataclass
from dustrun.services.imports import imported_types
from dustrun.services.problems import errors_in, problems_of
from dustrun.storage.db.database import Database
from dustrun.storage.workflows import versions, workflows

_Key = TypeVar("_Key")
_KEPT = 500
_KEPT_UNSAVED = 50
_SMALL = 1024
"""Characters of a definition that is compiled at once: up to 50 ms, if it is all one expression."""


@dataclass(frozen=True)
class CompiledWorkflow:
    """A definition's problems and, if none of them is an error, its program and trigger settings."""

    definition: Definition
    problems: tuple[Problem, ...]
    program: Program | None
    trigger_configs: dict[str, BaseModel]

    def runnable(self) -> Program:
        """The program; raises `Invalid` with every problem."""
        if self.program is None:
            raise Invalid("The workflow definition is invalid.", code=Code.DEFINITION_INVALID, details=self.problems)
        return self.program

    def shown(self) -> dict[str, Any]:
        """The definition as answers have it, its secrets masked; kept, since every reader of a run gets it."""
        return self._shown

    @functools.cached_property
    def _shown(self) -> dict[str, Any]:
        return show_definition(self.definition)


def show_definition(definition: Definition) -> dict[str, Any]:
    """A definition as answers have it, its secrets masked."""
    shown: dict[str, Any] = mask_value(definition.model_dump(by_alias=True, exclude_unset=True))
    return shown


class CompiledWorkflows:
    """An LRU cache of compiled workflow versions."""

    def __init__(self, database: Database, catalog: Catalog) -> None:
        self._database = database
        self._catalog = catalog
        self._specs = catalog.specs()
        self._kept: OrderedDict[tuple[str, int], CompiledWorkflow] = OrderedDict()
        self._loading: dict[tuple[str, int], asyncio.Task[CompiledWorkflow | None]] = {}
        self._unsaved: OrderedDict[bytes, CompiledWorkflow] = OrderedDict()

    def find_kept(self, workflow_id: str, version: int) -> CompiledWorkflow | None:
        """The compiled version if it is cached."""
        compiled = self._kept.get((workflow_id, version))
        if compiled is not None:
            self._kept.move_to_end((workflow_id, version))
        return compiled

    async def find(self, workflow_id: str, version: int) -> CompiledWorkflow | None:
        """The compiled version, from the cache or the store; None if the workflow has no such version."""
        compiled = self.find_kept(workflow_id, version)
        if compiled is not None:
            return compiled
        loading = self._loading.get((workflow_id, version))
        if loading is None:
            loading = self._load_once(workflow_id, version)
        return await asyncio.shield(loading)  # others may wait for it too

    def _load_once(self, workflow_id: str, version: int) -> asyncio.Task[CompiledWorkflow | None]:
        """Loads a version, for all who ask for it meanwhile: of a thousand callers after a start, one compiles it."""
        key = (workflow_id, version)
        task = asyncio.get_running_loop().create_task(self._load(workflow_id, version), context=contextvars.Context())

        def loaded(done: asyncio.Task[CompiledWorkflow | None]) -> None:
            del self._loading[key]
            if not done.cancelled():
                done.exception()  # those who wait get it; if they have all gone, nobody asks

        self._loading[key] = task
        task.add_done_callback(loaded)
        return task

    async def _load(self, workflow_id: str, version: int) -> CompiledWorkflow | None:
        row = await self._database.read(lambda tx: versions.find(tx, workflow_id, version))
        if row is None:
            return None
        org_id = await self._org_of(workflow_id) if imported_types.NAMES_ONE.search(row.definition) else ""
        compiled = await self._compile_text(row.definition, org_id)
        if compiled.program is not None or not org_id:  # what is missing may be imported later
            _keep(self._kept, (workflow_id, version), compiled, _KEPT)
        return compiled

    async def _org_of(self, workflow_id: str) -> str:
        return await self._database.read(lambda tx: workflows.org_of(tx, workflow_id))

    async def find_stored(self, workflow_id: str, version: int) -> CompiledWorkflow | None:
        """Like `find`, for a version that may have been replaced by an autosave: what is cached may be gone."""
        if await self._database.read(lambda tx: versions.find(tx, workflow_id, version)) is None:
            self._kept.pop((workflow_id, version), None)
            return None
        return await self.find(workflow_id, version)

    async def compile_text(self, org_id: str, text: str) -> CompiledWorkflow:
        """Compiles the text of a definition that is not saved, or takes it from the cache; raises `Invalid` if it does
        not match the schema."""
        is_of_org = imported_types.NAMES_ONE.search(text) is not None
        key = hashlib.sha256(f"{org_id if is_of_org else ''} {text}".encode()).digest()
        compiled = self._unsaved.get(key) or await self._compile_text(text, org_id)
        if compiled.program is not None or not is_of_org:
            _keep(self._unsaved, key, compiled, _KEPT_UNSAVED)
        return compiled

    async def pinned(self, org_id: str, document: Any) -> str:
        """The text of a definition that is not saved; nodes of imported types are pinned to the operations in use."""
        text = exact_json.dumps_text(document)
        if not isinstance(document, dict) or not imported_types.NAMES_ONE.search(text):
            return text
        pinned = await self._database.read(lambda tx: imported_types.pinned_document(tx, org_id, document))
        return exact_json.dumps_text(pinned)

    async def _compile_text(self, text: str, org_id: str) -> CompiledWorkflow:
        """Compiles in a thread unless the definition is small, so that the event loop goes on."""
        if imported_types.NAMES_ONE.search(text):
            document = await asyncio.to_thread(exact_json.loads, text)
            specs = await self._database.read(lambda tx: imported_types.specs_with(tx, org_id, document, self._specs))
            return await asyncio.to_thread(self._compile, document, specs)
        if len(text) <= _SMALL:
            return self._compile(exact_json.loads(text), self._specs)
        return await asyncio.to_thread(lambda: self._compile(exact_json.loads(text), self._specs))

    @staticmethod
    def _compile(document: Any, specs: Specs) -> CompiledWorkflow:
        try:
            definition = Definition.model_validate(document)
        except ValidationError as error:
            found = problems_of(errors_in(error, document, Definition.model_validate), model=Definition)
            raise Invalid("The definition is invalid.", code=Code.DEFINITION_INVALID, details=found) from None
        problems = tuple(validate.check(definition, specs))
        if any(problem.severity == "error" for problem in problems):
            return CompiledWorkflow(definition, problems, None, {})
        program = compile_program(definition, specs)
        configs = {
            node_id: specs[definition.nodes[node_id].type].payload.model_validate(definition.nodes[node_id].payload)
            for node_id in definition.trigger_node_ids
        }
        return CompiledWorkflow(definition, problems, program, configs)


def _keep(kept: OrderedDict[_Key, CompiledWorkflow], key: _Key, compiled: CompiledWorkflow, most: int) -> None:
    kept[key] = compiled
    kept.move_to_end(key)
    if len(kept) > most:
        kept.popitem(last=False)
