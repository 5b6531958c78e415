"""The connectors of one run: opened before a node needs one, and their secrets masked in everything that leaves a node.

All connectors that the definition names are opened before the first action runs, so that a secret is also masked when
it comes back through a node without a connector, or after a restart of the server.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from dustrun import log
from dustrun.core.text.masking import Mask
from dustrun.core.workflow.program import Program
from dustrun.engine.node import node as nodes
from dustrun.engine.node.context import Emit, NodeContext
from dustrun.engine.node.mode import RunMode
from dustrun.engine.node.outcome import (
    Carrier,
    Failed,
    Job,
    Outcome,
    Settled,
    Suspended,
    Unknown,
    of_error,
    request_facts,
)
from dustrun.engine.node.rehearsal import RehearsalCommands, RehearsalHttp, RehearsalNotifier
from dustrun.errors import DustrunError, StoreUnavailable
from dustrun.sdk.context import CheckingHttp, Connection
from dustrun.sdk.notice import CheckingNotifier
from dustrun.sdk.programs import Commands
from dustrun.sdk.threads import run_sized
from dustrun.services.connectors.connections import Connections, OpenConnector
from dustrun.services.connectors.masked_http import MaskedHttp
from dustrun.services.connectors.noted import NotedCommands, NotedNotifier
from dustrun.services.runs.engine_port import RunFacts


class Secrets:
    """The connectors of one run, and the mask of their secrets. Free of cost for a run without connectors."""

    def __init__(self, connections: Connections, facts: RunFacts, program: Program, mode: RunMode) -> None:
        self._connections = connections
        self._facts = facts
        self._mode = mode
        self._references = program.connectors
        self._mask = Mask()
        self._are_known = not self._references

    async def read_for_model(
        self, job: Job, context: NodeContext, http: CheckingHttp, notifier: CheckingNotifier
    ) -> Outcome:
        """Runs a tool of a model with its connector; refuses what would change something outside."""
        try:
            opened = await self._open(job)
        except DustrunError as error:
            return await self.masked(of_error(error))
        if opened is not None:
            job.narrow(opened.connection)
        if job.is_outside:
            return Failed("REFUSED", "This call would change something outside; a model may only read.")
        return await self.carry_out(job, context, http, notifier)

    async def connection_of(self, job: Job) -> Connection | None:
        """The connector of a tool, opened."""
        opened = await self._open(job)
        return None if opened is None else opened.connection

    async def carry_out(
        self, job: Job, context: NodeContext, http: CheckingHttp, notifier: CheckingNotifier
    ) -> Outcome:
        """Runs a node's action with its connector, and masks the outcome."""
        commands: Commands = self._connections.commands
        if not self._references:
            if job.carrier is Carrier.REHEARSAL:
                context.replace(RehearsalHttp(http, http), RehearsalNotifier(notifier), RehearsalCommands(commands))
            return await nodes.run(job, context)
        try:
            await self._learn()
            opened = await self._open(job)
        except DustrunError as error:
            return await self.masked(_begun(job) or of_error(error))
        if opened is not None:
            job.narrow(opened.connection)
        if (begun := _begun(job)) is not None:
            return begun
        if opened is not None and opened.connection.moves_money and self._mode.refuses_connector(job):
            return _refused(opened)
        connection = opened.connection if opened else None
        context.connect(connection, MaskedHttp(http, self._mask, opened), self._masking)
        if opened is not None:
            notifier, commands = NotedNotifier(notifier, opened), NotedCommands(commands, opened)
            context.replace(context.http, notifier, commands)
        if job.carrier is Carrier.REHEARSAL:
            reads = RehearsalHttp(http, context.http, opened)
            context.replace(reads, RehearsalNotifier(notifier), RehearsalCommands(commands))
        return await self.masked(await nodes.run(job, context))

    async def cover(self, context: NodeContext, spend: Callable[[], Awaitable[Outcome]]) -> Outcome:
        """Runs a step of a spend, which gets no connector, and masks its events and outcome."""
        if not self._references:
            return await spend()
        await self._learn()
        context.connect(None, context.http, self._masking)
        return await self.masked(await spend())

    def text(self, text: str) -> str:
        """The text with every secret that this run has opened masked."""
        return self._mask.text(text)

    async def _learn(self) -> None:
        if self._are_known:
            return
        for reference in self._references.values():
            try:
                await self._connections.open(self._facts.org_id, reference, self._mask)
            except StoreUnavailable:
                raise  # what it would mask is not known yet, so nothing may run
            except DustrunError as error:
                # the node that needs it reports the error; here there is just no secret to mask
                _logger.info("a connector cannot be opened", connector=reference.id, error=error.message)
        self._are_known = True

    async def _open(self, job: Job) -> OpenConnector | None:
        reference = job.node.node.connector
        if reference is None or not job.action.connector:
            return None
        if reference.id not in self._references:
            return None
        return await self._connections.open(self._facts.org_id, reference, self._mask, run_pk=self._facts.pk)

    def _masking(self, emit: Emit) -> Emit:
        def masked(kind: str, data: dict[str, Any]) -> None:
            emit(kind, self._mask.value(data))

        return masked

    async def masked(self, outcome: Outcome) -> Outcome:
        """The outcome with every secret that this run has opened masked, a large one in a thread."""
        if not self._mask:
            return outcome
        return await run_sized(outcome, self._masked, outcome)

    def _masked(self, outcome: Outcome) -> Outcome:
        value, text = self._mask.value, self._mask.text
        if isinstance(outcome, Settled):
            facts = self._masked_facts(outcome.facts)
            return replace(outcome, result=value(outcome.result), facts=facts, note=value(outcome.note))
        if isinstance(outcome, Failed):
            details, facts = value(outcome.details), self._masked_facts(outcome.facts)
            return replace(outcome, message=text(outcome.message), details=details, facts=facts)
        if isinstance(outcome, Unknown):
            return replace(outcome, message=text(outcome.message), facts=value(outcome.facts))
        if isinstance(outcome, Suspended):
            return replace(outcome, facts=self._masked_facts(outcome.facts), note=value(outcome.note))
        return outcome

    def _masked_facts(self, facts: dict[str, Any] | None) -> Any:
        """The state from which a spend resumes is never shown, so it stays unmasked."""
        kept = {"spend": facts["spend"]} if facts is not None and "spend" in facts else {}
        return {**self._mask.value(facts), **kept} if facts is not None else None


def _begun(job: Job) -> Unknown | None:
    """The outcome of a write that began before a restart."""
    if not (job.has_begun and job.may_have_happened):
        return None
    return Unknown("The server ended while this node ran; it may have happened.", request_facts(job, sent=True))


def _refused(opened: OpenConnector) -> Failed:
    return Failed(
        "REFUSED",
        f'The connector "{opened.row.name}" moves money, so a dust test does not run this node: what it would move '
        'cannot be made small. Say dust: "skip" or "run" on the node to decide otherwise.',
    )


_logger = log.get(__name__)
