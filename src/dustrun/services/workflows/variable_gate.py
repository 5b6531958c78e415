"""Who may change variables that can decide on a spend."""

from __future__ import annotations

from collections.abc import Iterator

from dustrun.errors import Code, Forbidden, Refused
from dustrun.services.access.principal import ALL_WALLETS, Principal
from dustrun.services.workflows.closure import Closure, Closures, Lookup, version_called
from dustrun.services.workflows.sources import covers
from dustrun.services.workflows.spend_gate import name_of
from dustrun.storage.workflows import workflows as rows
from dustrun.storage.workflows.workflows import WorkflowRow


class VariableGate:
    """Decides by the versions that can read a variable: those of its workflow, and of the workflows that call it."""

    def __init__(self, closures: Closures) -> None:
        self._closures = closures

    def check_change(self, lookup: Lookup, principal: Principal, row: WorkflowRow) -> None:
        """Raises `Forbidden` unless the caller may spend whatever the workflow's variables can decide on."""
        closure = self._find_uncovered(lookup, principal.spendable, row)
        if closure is not None:
            is_known = principal.may_read_workflow(closure.root.workflow.id)
            spender = name_of(closure.root) if is_known else "a version of it or of a workflow that calls it"
            raise Forbidden(
                f"The variables of {row.id} can decide on a spend, since {spender} can spend: "
                'changing one needs the permission "wallet:spend" on its wallets.'
            )

    def check_writer(self, lookup: Lookup, workflow_id: str, version: int) -> None:
        """Raises `Refused` if a version other than the one that calls run writes a variable, and its author may not
        spend what the workflow's variables can decide on. The version that calls run is in the closures that need an
        acceptance."""
        content = self._closures.find(lookup.tx, workflow_id, version)
        if content is None or content.author_wallets == ALL_WALLETS:
            return
        row = lookup.find(workflow_id)
        if row is None or version_called(row) == version:
            return
        closure = self._find_uncovered(lookup, content.author_wallets, row)
        if closure is not None:
            raise Refused(
                f'Version {version} of "{row.name}" may not change its variables: {name_of(closure.root)} can spend '
                "and may read them, and the author of this version may not spend from its wallets. Save the version "
                "again with a key that may.",
                code=Code.VERSION_NOT_ACCEPTED,
            )

    def _find_uncovered(self, lookup: Lookup, wallets: str | None, row: WorkflowRow) -> Closure | None:
        """A draft or live version that can spend, of the workflow or of one that calls it, and that uses wallets beyond
        these."""
        if wallets == ALL_WALLETS:
            return None
        for one in _with_callers(lookup, row):
            for version in {one.draft_version, one.live_version} - {None}:
                closure = self._closures.resolve(lookup, one, version) if version is not None else None
                if closure is None or not closure.can_spend or covers(lookup, wallets, closure):
                    continue
                if any(member.workflow.id == row.id for member in closure.members):
                    return closure
        return None


def _with_callers(lookup: Lookup, row: WorkflowRow) -> Iterator[WorkflowRow]:
    """The workflow, and those that call it by its id, at any depth."""
    seen, waiting = {row.id}, [row]
    while waiting:
        one = waiting.pop()
        yield one
        found = [caller for caller in rows.list_callers(lookup.tx, one) if caller.id not in seen]
        seen |= {caller.id for caller in found}
        waiting += found
