"""Which webhook an address leads to, kept for a moment: a busy address is looked up once a second.

What is kept is forgotten as soon as an address is made, replaced or revoked in this process, so a store that several
servers share keeps nothing. A change of the subscription shows in the transaction that takes an event.
"""

from __future__ import annotations

from dustrun import clock, ids
from dustrun.core.triggers import webhook_senders
from dustrun.errors import Code, NotFound
from dustrun.records import dataclass
from dustrun.services.triggers.inbound.webhook_secrets import KIND, WebhookSecrets, is_good
from dustrun.services.triggers.subscriptions import Subscription, Subscriptions
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.triggers import subscriptions as rows
from dustrun.storage.triggers import webhook_secrets as secret_rows
from dustrun.storage.triggers.subscriptions import SubscriptionRow
from dustrun.storage.triggers.webhook_secrets import SecretRow

_KEPT_S = 1.0
_MOST_KEPT = 1000
UNKNOWN = "There is no such webhook, or its address was replaced."


@dataclass(frozen=True, slots=True)
class Target:
    """The target of an address: the subscription of its node, if it was ever published, and what signs. `until`: when
    the first of these secrets expires, in milliseconds."""

    secret: SecretRow
    sub: Subscription | None
    signing_secrets: tuple[str, ...]
    until: int | None


class WebhookTargets:
    """Finds the targets of addresses."""

    def __init__(self, database: Database, secrets: WebhookSecrets, subscriptions: Subscriptions) -> None:
        self._database = database
        self._secrets = secrets
        self._subscriptions = subscriptions
        self._kept: dict[str, tuple[Target, float]] = {}
        self._keeps = not database.is_shared
        self._changes = 0
        secrets.on_changed.append(self._forget_all)

    def _forget_all(self) -> None:
        self._changes += 1
        self._kept.clear()

    async def find(self, secret: str) -> Target | None:
        """The target of an address; None for an unknown one."""
        of = ids.secret_hash(secret)
        kept = self._kept.get(of)
        if kept is not None and _is_fresh(*kept):
            return kept[0]
        return await self._find(of)

    async def find_again(self, target: Target) -> Target:
        """The target as it is now; raises `NotFound` if its address is good no more."""
        found = await self._find(target.secret.hash)
        if found is None:
            raise NotFound(UNKNOWN, code=Code.WEBHOOK_UNKNOWN)
        return found

    async def _find(self, of: str) -> Target | None:
        changes, now = self._changes, clock.now_ms()

        def query(tx: Tx) -> tuple[SecretRow, SubscriptionRow | None] | None:
            row = secret_rows.find_by_hash(tx, of)
            if row is None or not is_good(row, now):
                return None
            return row, rows.find_of_node(tx, row.workflow_id, row.node_id, KIND)

        self._kept.pop(of, None)
        found = await self._database.look_up(query)
        if found is None:
            return None
        row, own = found
        target = await self._target(row, own, now)
        if self._keeps and changes == self._changes:
            if len(self._kept) >= _MOST_KEPT:
                self._kept.clear()
            self._kept[of] = target, clock.monotonic_s() + _KEPT_S
        return target

    async def _target(self, row: SecretRow, own: SubscriptionRow | None, now: int) -> Target:
        sub = (await self._subscriptions.parsed_all([own]))[0] if own is not None else None
        if sub is None or not webhook_senders.needs_secret(sub.config.auth):
            return Target(row, sub, (), row.expires_at)
        signing, until = await self._database.look_up(lambda tx: self._secrets.signing_secrets(tx, row, now))
        return Target(row, sub, tuple(signing), until)


def _is_fresh(target: Target, until: float) -> bool:
    return clock.monotonic_s() < until and (target.until is None or target.until > clock.now_ms())
