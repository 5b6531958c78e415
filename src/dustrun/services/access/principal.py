"""Who asks: the organisation, key and permissions behind one call."""

from __future__ import annotations

from dataclasses import dataclass

from dustrun.errors import Code, Forbidden, NotFound

PERMISSIONS = frozenset(
    [
        "workflow:read",
        "workflow:create",
        "workflow:update",
        "workflow:publish",
        "workflow:execute",
        "workflow:delete",
        "run:read",
        "run:cancel",
        "run:stream",
        "run:inline",
        "connector:read",
        "connector:write",
        "wallet:read",
        "wallet:spend",
        "wallet:write",
        "wallet:admin",
        "transaction:read",
        "transaction:write",
        "approval:decide",
        "hook:read",
        "hook:write",
        "table:read",
        "table:write",
        "key:read",
        "key:write",
        "metrics:read",
        "chat:read",
        "chat:write",
        "admin",
    ]
)


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller. The permission `admin` holds every other one; `workflow_ids` and `wallet_ids` are all that the key
    reaches of the organisation, None: everything. `expires_at` is when the key ends by itself."""

    key_id: str
    org_id: str
    permissions: frozenset[str]
    workflow_ids: frozenset[str] | None = None
    wallet_ids: frozenset[str] | None = None
    expires_at: int | None = None

    def may(self, permission: str) -> bool:
        """Whether the caller holds the permission."""
        return permission in self.permissions or "admin" in self.permissions

    def need(self, permission: str) -> None:
        """Raises `Forbidden` without the permission."""
        if not self.may(permission):
            raise Forbidden(f'The key lacks the permission "{permission}".')

    @property
    def reach(self) -> str:
        """All that the key may do, as one text: equal for keys that may do the same."""
        named = (self.permissions, self.workflow_ids, self.wallet_ids)
        return repr([None if names is None else sorted(names) for names in named])

    def may_use_workflow(self, workflow_id: str | None) -> bool:
        """Whether the key reaches a workflow and its runs; None stands for inline runs, which belong to none."""
        return self.workflow_ids is None or workflow_id in self.workflow_ids

    def need_workflow(self, workflow_id: str) -> None:
        """Raises `NotFound`, as for a workflow of another organisation, when the key does not reach it."""
        if not self.may_use_workflow(workflow_id):
            raise NotFound(f'There is no workflow "{workflow_id}".', code=Code.WORKFLOW_UNKNOWN)

    def may_use_wallet(self, wallet_id: str) -> bool:
        """Whether the key reaches a wallet."""
        return self.wallet_ids is None or wallet_id in self.wallet_ids

    def need_every_wallet(self, doing: str) -> None:
        """Raises `Forbidden` for a key that is limited to some wallets; `doing` says what it cannot do."""
        if self.wallet_ids is not None:
            raise Forbidden(f"The key is limited to some wallets (walletIds); it cannot {doing}.")

    def need_every_workflow(self, doing: str) -> None:
        """Raises `Forbidden` for a key that is limited to some workflows; `doing` says what it cannot do."""
        if self.workflow_ids is not None:
            raise Forbidden(f"The key is limited to some workflows (workflowIds); it cannot {doing}.")

    def need_no_limits(self, doing: str) -> None:
        """Raises `Forbidden` for a key that is limited to some workflows or wallets."""
        self.need_every_workflow(doing)
        self.need_every_wallet(doing)
