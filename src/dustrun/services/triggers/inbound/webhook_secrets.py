"""The secret addresses of webhooks: made, shown once, replaced with an overlap, and revoked."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from dustrun import clock, ids
from dustrun.core.text import standard_webhooks
from dustrun.core.values import exact_json
from dustrun.errors import Code, Forbidden, Invalid, NotFound, Problem
from dustrun.listeners import Listeners
from dustrun.records import dataclass
from dustrun.services.access import audit, hands, idempotency
from dustrun.services.access.principal import Principal
from dustrun.services.triggers.arming import Arming
from dustrun.services.workflows.versions import get_workflow
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer
from dustrun.storage.secrets.vault import Vault
from dustrun.storage.triggers import subscriptions
from dustrun.storage.triggers import webhook_secrets as rows
from dustrun.storage.triggers.webhook_secrets import SecretRow
from dustrun.storage.workflows import versions
from dustrun.storage.workflows.workflows import WorkflowRow

KIND = "webhook"
"""The context that a sealed signing secret is bound to."""
T = TypeVar("T")
_SIGNING_BYTES = 32
_LEAST, _MOST = 16, 200


@dataclass(frozen=True, slots=True)
class WebhookNode:
    """A webhook node of a workflow's draft or live version, and when its addresses were made and expire."""

    node_id: str
    config: dict[str, Any]
    secrets: tuple[SecretRow, ...]


@dataclass(frozen=True, slots=True)
class NewAddress:
    """A new address, with what is shown only now."""

    row: SecretRow
    url: str
    signing_secret: str
    previous_expires_at: int | None


class WebhookSecrets:
    """Use cases of webhooks' secrets."""

    def __init__(self, database: Database, writer: Writer, vault: Vault, public_url: str, arming: Arming) -> None:
        self._database = database
        self._writer = writer
        self._vault = vault
        self._public_url = public_url.rstrip("/")
        self._arming = arming
        self.on_changed: Listeners[[]] = Listeners()
        """Called after a change of addresses, or one whose outcome is unknown, before its caller is answered."""

    async def list_nodes(self, principal: Principal, workflow_id: str) -> list[WebhookNode]:
        """The webhook nodes of a workflow; raises `NotFound`."""

        def query(tx: Tx) -> list[WebhookNode]:
            workflow = get_workflow(tx, principal, workflow_id)
            now = clock.now_ms()
            found = [row for row in rows.list_of(tx, workflow_id) if is_good(row, now)]
            return [
                WebhookNode(node_id, config, tuple(row for row in found if row.node_id == node_id))
                for node_id, config in dict(_webhooks_of(tx, workflow)).items()
            ]

        return await self._database.read(query)

    def url_of(self, secret: str) -> str:
        """The address with a secret."""
        return f"{self._public_url}/v1/webhooks/{secret}"

    async def rotate(
        self, principal: Principal, workflow_id: str, node_id: str, signing_secret: str | None, overlap_ms: int
    ) -> NewAddress:
        """Makes a new address of a webhook node; the old ones stay good for `overlap_ms`. Raises `NotFound`,
        `Forbidden` if requests to it would spend what the caller may not, and `Invalid` for a signing secret that is
        too weak."""
        signing = _checked(signing_secret) if signing_secret is not None else _new_signing_secret()
        secret, secret_id = ids.new_secret("dwh"), ids.new_id("whs")
        await self._vault.prepare()

        def unit(tx: Tx) -> NewAddress:
            workflow = get_workflow(tx, principal, workflow_id)
            if node_id not in dict(_webhooks_of(tx, workflow)):
                message = f'Neither the draft nor the live version has a webhook node "{node_id}".'
                raise NotFound(message, code=Code.WEBHOOK_UNKNOWN)
            self._need_spending(tx, principal, workflow, node_id)
            now = clock.now_ms()
            had = any(is_good(row, now) for row in rows.list_of(tx, workflow_id, node_id))
            rows.end_all(tx, workflow_id, node_id, now + overlap_ms)
            rows.prune(tx, workflow_id, now)
            row = SecretRow(
                id=secret_id,
                org_id=principal.org_id,
                workflow_id=workflow_id,
                node_id=node_id,
                hash=ids.secret_hash(secret),
                sealed=self._vault.seal(tx, principal.org_id, KIND, secret_id, signing.encode()),
                created_at=now,
            )
            rows.insert(tx, row)
            hands.note(tx, principal, "webhook", f"{workflow_id}/{node_id}", is_new=not had)
            audit.record(tx, principal, "webhook.rotate", workflow_id, nodeId=node_id, overlapMs=overlap_ms)
            return NewAddress(row, self.url_of(secret), signing, now + overlap_ms if had else None)

        return await self._change(unit)

    async def _change(self, unit: Callable[[Tx], T]) -> T:
        try:
            return await idempotency.write(self._writer, unit)
        finally:
            self.on_changed()

    def _need_spending(self, tx: Tx, principal: Principal, workflow: WorkflowRow, node_id: str) -> None:
        """Whoever knows an address decides when the workflow runs and with what payload, so making one needs what
        starting such a run needs. Addresses where the webhook only simulates are free."""
        for number, config in _configs_of(tx, workflow, node_id):
            modes = {config.get("mode", "live")}
            if number == workflow.live_version:
                modes |= {sub.mode for sub in subscriptions.list_of(tx, workflow.id) if sub.node_id == node_id}
            if modes != {"simulate"} and not self._arming.may_spend(tx, principal, workflow, number):
                raise Forbidden(
                    f"Requests to this address would spend from the wallets of version {number}. Make it with a key "
                    'that has "wallet:spend" on them.'
                )

    async def revoke(self, principal: Principal, workflow_id: str, node_id: str) -> None:
        """Ends every address of a webhook node at once; raises `NotFound`."""

        def unit(tx: Tx) -> None:
            get_workflow(tx, principal, workflow_id)
            now = clock.now_ms()
            if not any(is_good(row, now) for row in rows.list_of(tx, workflow_id, node_id)):
                raise NotFound(f'The node "{node_id}" has no address.', code=Code.WEBHOOK_UNKNOWN)
            rows.end_all(tx, workflow_id, node_id, now)
            rows.prune(tx, workflow_id, now)
            audit.record(tx, principal, "webhook.revoke", workflow_id, nodeId=node_id)

        await self._change(unit)

    def signing_secrets(self, tx: Tx, row: SecretRow, now: int) -> tuple[list[str], int | None]:
        """The signing secrets that are good at an address, and when the first of them expires: its node's, old ones
        until they expire."""
        found = [one for one in rows.list_of(tx, row.workflow_id, row.node_id) if is_good(one, now)]
        opened = [self._vault.open(tx, one.org_id, KIND, one.id, one.sealed).decode() for one in found]
        return opened, min((one.expires_at for one in found if one.expires_at is not None), default=None)


def is_good(row: SecretRow, now: int) -> bool:
    """Whether an address is good at `now`."""
    return row.expires_at is None or row.expires_at > now


def _webhooks_of(tx: Tx, workflow: WorkflowRow) -> Iterator[tuple[str, dict[str, Any]]]:
    """The webhook nodes of the draft and, before them, those of the live version, with their configs."""
    for number in (workflow.draft_version, workflow.live_version):
        yield from _webhooks_in(tx, workflow.id, number)


def _webhooks_in(tx: Tx, workflow_id: str, number: int | None) -> Iterator[tuple[str, dict[str, Any]]]:
    version = versions.find(tx, workflow_id, number) if number is not None else None
    nodes = exact_json.loads(version.definition).get("nodes", {}) if version is not None else {}
    for node_id, node in nodes.items():
        if isinstance(node, dict) and node.get("type") == KIND:
            yield node_id, node.get("payload") or {}


def _configs_of(tx: Tx, workflow: WorkflowRow, node_id: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The versions whose webhook an address of the node is good for, now or once they are published."""
    for number in {workflow.draft_version, workflow.live_version} - {None}:
        assert number is not None
        for found, config in _webhooks_in(tx, workflow.id, number):
            if found == node_id:
                yield number, config


def _new_signing_secret() -> str:
    return standard_webhooks.PREFIX + base64.b64encode(ids.new_entropy(_SIGNING_BYTES)).decode()


def _checked(secret: str) -> str:
    if not (_LEAST <= len(secret) <= _MOST and secret.isascii() and secret.isprintable()):
        message = f"must be {_LEAST} to {_MOST} printable ASCII characters"
        raise Invalid("The signing secret is not valid.", details=[Problem("signingSecret", message)])
    return secret
