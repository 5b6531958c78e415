"""Links to public forms: made by one who may do what they start, shown once, listed and revoked."""

from __future__ import annotations

from typing import Any, Final

from dustrun import clock, ids
from dustrun.core.run.state import Mode
from dustrun.core.values import exact_json
from dustrun.errors import Code, Conflict, Forbidden, Invalid, NotFound, Problem
from dustrun.records import dataclass
from dustrun.services.access import audit, idempotency
from dustrun.services.access.principal import Principal
from dustrun.services.triggers.arming import Arming
from dustrun.services.triggers.forms.state import Form, form_of
from dustrun.services.workflows.versions import get_workflow
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer
from dustrun.storage.triggers import form_links as rows
from dustrun.storage.triggers.form_links import FormLinkRow
from dustrun.storage.workflows import versions
from dustrun.storage.workflows.workflows import WorkflowRow

MOST_OPEN: Final = 100
"""Open links of one workflow."""
_KEPT_MS: Final = 30 * 86_400_000


@dataclass(frozen=True, slots=True)
class FormOptions:
    """The settings of a new link; `title` None: the workflow's name."""

    mode: Mode
    max_runs: int
    expires_at: int
    title: str | None = None
    description: str | None = None


@dataclass(frozen=True, slots=True)
class NewForm:
    """A new link, with the address that is shown only now."""

    form: Form
    url: str
    warnings: list[str]


class FormLinks:
    """Use cases of those who make links."""

    def __init__(self, database: Database, writer: Writer, public_url: str, arming: Arming) -> None:
        self._database = database
        self._writer = writer
        self._public_url = public_url.rstrip("/")
        self._arming = arming

    async def list_of(self, principal: Principal, workflow_id: str) -> list[Form]:
        """A workflow's links, newest first; raises `NotFound`."""

        def query(tx: Tx) -> list[Form]:
            workflow = get_workflow(tx, principal, workflow_id)
            return [form_of(tx, row, workflow) for row in rows.list_of(tx, workflow_id)]

        return await self._database.read(query)

    async def create(self, principal: Principal, workflow_id: str, options: FormOptions) -> NewForm:
        """Makes a link to the live version's manual trigger. Raises `NotFound`, `Invalid` if that has no input schema,
        and `Forbidden` if the caller may not start or spend what the form would."""
        principal.need("workflow:simulate" if options.mode is Mode.SIMULATE else "workflow:execute")
        now = clock.now_ms()
        if options.expires_at <= now:
            raise Invalid("The form would have expired.", details=[Problem("expiresAt", "must be in the future")])
        secret, form_id = ids.new_secret("dfm"), ids.new_id("frm")
        warnings = await self._arming.warn_of_form(self._database, principal, workflow_id)

        def unit(tx: Tx) -> NewForm:
            workflow = get_workflow(tx, principal, workflow_id)
            self._check(tx, principal, workflow, options.mode)
            rows.prune(tx, workflow_id, now - _KEPT_MS)
            row = FormLinkRow(
                id=form_id,
                org_id=principal.org_id,
                workflow_id=workflow_id,
                key_id=principal.key_id,
                hash=ids.secret_hash(secret),
                title=options.title or workflow.name,
                description=options.description,
                mode=options.mode.value,
                max_runs=options.max_runs,
                created_at=now,
                expires_at=options.expires_at,
            )
            rows.insert(tx, row)
            facts = {"formId": form_id, "mode": row.mode, "maxRuns": row.max_runs, "expiresAt": row.expires_at}
            audit.record(tx, principal, "form.create", workflow_id, **facts)
            return NewForm(form_of(tx, row, workflow), f"{self._public_url}/forms/{secret}", warnings)

        return await idempotency.write(self._writer, unit)

    def _check(self, tx: Tx, principal: Principal, workflow: WorkflowRow, mode: Mode) -> None:
        if workflow.live_version is None:
            message = "A form runs the live version, and this workflow has none; publish it first."
            raise NotFound(message, code=Code.LIVE_UNKNOWN)
        version = versions.find(tx, workflow.id, workflow.live_version)
        assert version is not None
        if input_schema_in(exact_json.loads(version.definition)) is None:
            raise Invalid(
                f"Version {workflow.live_version} has no manual trigger with an input schema that lists properties, so "
                "there is nothing to ask for. Set `inputSchema` at its `manual` node and publish it.",
                code=Code.DEFINITION_INVALID,
            )
        if mode is not Mode.SIMULATE and not self._arming.may_spend(tx, principal, workflow, workflow.live_version):
            raise Forbidden(
                f"Whoever has the link would spend from the wallets of version {workflow.live_version}. Make it with a "
                'key that has "wallet:spend" on them, or a form that only simulates.'
            )
        now = clock.now_ms()
        open_links = [row for row in rows.list_of(tx, workflow.id) if row.revoked_at is None and row.expires_at > now]
        if len(open_links) >= MOST_OPEN:
            message = f"The workflow has {len(open_links)} open links to forms; revoke some first."
            raise Conflict(message, code=Code.FORM_LIMIT)

    async def revoke(self, principal: Principal, workflow_id: str, form_id: str) -> Form:
        """Ends a link at once, also for those who wait for a result; idempotent. Raises `NotFound`."""

        def unit(tx: Tx) -> Form:
            workflow = get_workflow(tx, principal, workflow_id)
            found = rows.find(tx, workflow_id, form_id)
            row = rows.find_to_change(tx, form_id) if found is not None else None
            if row is None:
                raise NotFound(f'The workflow has no form "{form_id}".', code=Code.FORM_UNKNOWN)
            if row.revoked_at is None:
                rows.revoke(tx, form_id, clock.now_ms())
                audit.record(tx, principal, "form.revoke", workflow_id, formId=form_id)
            after = rows.find(tx, workflow_id, form_id)
            assert after is not None
            return form_of(tx, after, workflow)

        return await idempotency.write(self._writer, unit)


def manual_node_of(document: dict[str, Any]) -> str | None:
    """The manual trigger that a form starts."""
    nodes = document.get("nodes", {})
    found = [name for name in document.get("triggerNodeIds", ["root"]) if name in nodes]
    return next((name for name in found if nodes[name].get("type") == "manual"), None)


def input_schema_in(document: dict[str, Any]) -> dict[str, Any] | None:
    """The schema that a form is drawn from; None if there is nothing to ask for."""
    node_id = manual_node_of(document)
    payload = document["nodes"][node_id].get("payload") or {} if node_id is not None else {}
    schema = payload.get("inputSchema")
    return schema if isinstance(schema, dict) and isinstance(schema.get("properties"), dict) else None
