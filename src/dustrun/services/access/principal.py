"""The authenticated caller: organisation, key and permissions."""

from __future__ import annotations

from dustrun.core.values import exact_json
from dustrun.errors import Code, Forbidden, NotFound
from dustrun.records import dataclass

PERMISSIONS = frozenset(
    [
        "workflow:read",
        "workflow:create",
        "workflow:update",
        "workflow:publish",
        "workflow:execute",
        "workflow:simulate",
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
        "assistant:use",
        "admin",
        "operator",
        "people:provision",
    ]
)
PROVISION = "people:provision"
"""The permission of a directory, in a key that has no other (`services/access/scim`)."""
OF_THE_SERVER = frozenset(["metrics:read", "operator"])
"""Permissions over the whole server, not one organisation: `admin` does not include them, `operator` does."""

_INCLUDED_IN = {"workflow:simulate": "workflow:execute"}
"""By permission, the wider one that includes it."""

ALL_WALLETS = "*"


@dataclass(frozen=True, slots=True)
class Principal:
    """The authenticated caller. The permission `admin` includes all others within the organisation.

    `workflow_ids`, `wallet_ids` and `connector_ids` limit what the key can access; None means no limit. `expires_at` is
    in milliseconds."""

    key_id: str
    org_id: str
    permissions: frozenset[str]
    workflow_ids: frozenset[str] | None = None
    wallet_ids: frozenset[str] | None = None
    expires_at: int | None = None
    is_session: bool = False
    """Whether a browser's session stands for the key."""
    session: str | None = None
    """The hash of that session's id."""
    is_fresh: bool = False
    """Whether that is a person's, who has just signed in: with a passkey, if they have any."""
    connector_ids: frozenset[str] | None = None

    def may(self, permission: str) -> bool:
        """Whether the caller has the permission."""
        includes_it = "operator" if permission in OF_THE_SERVER else "admin"
        wider = _INCLUDED_IN.get(permission, permission)
        return not self.permissions.isdisjoint((permission, wider, includes_it))

    def need(self, permission: str) -> None:
        """Raises `Forbidden` without the permission."""
        if not self.may(permission):
            raise Forbidden(f'The key lacks the permission "{permission}".')

    @property
    def only_simulates(self) -> bool:
        """Whether the key may start dry runs and no other: also of definitions that are not saved (`run:inline`)."""
        return "workflow:simulate" in self.permissions and not self.may("workflow:execute")

    @property
    def runs_beyond_simulations(self) -> bool:
        """Whether the key may start a run that is no dry run."""
        return self.may("workflow:execute") or ("run:inline" in self.permissions and not self.only_simulates)

    def need_mode(self, *, is_simulated: bool) -> None:
        """Raises `Forbidden` if the key may not start a run of that mode."""
        if self.only_simulates and not is_simulated:
            raise Forbidden(
                'The key has "workflow:simulate" and lacks "workflow:execute": it starts dry runs only. '
                'Send `"simulate": true`.'
            )

    def need_bearer(self, doing: str) -> None:
        """Raises `Forbidden` for a browser's session; `doing` completes "it cannot …"."""
        if self.is_session:
            raise Forbidden(
                f"A browser's session cannot {doing}; send the API key itself as `Authorization: Bearer <key>`.",
                code=Code.BEARER_NEEDED,
            )

    def need_presence(self, doing: str) -> None:
        """As `need_bearer`, but a person who has just signed in may: they have no key before they made one."""
        if self.is_session and not self.is_fresh:
            raise Forbidden(
                f"A browser's session cannot {doing}, except a person's in the first ten minutes: sign in again, with "
                "your passkey if you have one, or send an API key as `Authorization: Bearer <key>`.",
                code=Code.BEARER_NEEDED,
            )

    @property
    def reach(self) -> str:
        """The key's rights as text: equal for keys with equal rights."""
        named = (self.permissions, self.workflow_ids, self.wallet_ids, self.connector_ids)
        return repr([None if names is None else sorted(names) for names in named])

    @property
    def spendable(self) -> str | None:
        """The wallets that the key may spend from, as stored with its writes: None none, `*` every one, else a JSON
        list."""
        return self.usable_wallets if self.may("wallet:spend") else None

    @property
    def usable_wallets(self) -> str:
        """The wallets that the key can access, in the same form."""
        return ALL_WALLETS if self.wallet_ids is None else exact_json.dumps_text(sorted(self.wallet_ids))

    def may_use_workflow(self, workflow_id: str | None) -> bool:
        """Whether the key can access a workflow and its runs; None stands for inline runs."""
        return self.workflow_ids is None or workflow_id in self.workflow_ids

    def may_read_workflow(self, workflow_id: str) -> bool:
        """Whether the key may be told of a workflow."""
        return self.may("workflow:read") and self.may_use_workflow(workflow_id)

    def need_workflow(self, workflow_id: str) -> None:
        """Raises `NotFound` if the key cannot access the workflow, as for one of another organisation."""
        if not self.may_use_workflow(workflow_id):
            raise NotFound(f'There is no workflow "{workflow_id}".', code=Code.WORKFLOW_UNKNOWN)

    def is_within(self, other: Principal) -> bool:
        """Whether these rights are no wider than another's: permissions, workflows, wallets and connectors."""
        return (
            all(map(other.may, self.permissions))
            and not (other.only_simulates and self.runs_beyond_simulations)
            and _is_narrower(self.workflow_ids, other.workflow_ids)
            and _is_narrower(self.wallet_ids, other.wallet_ids)
            and _is_narrower(self.connector_ids, other.connector_ids)
        )

    @property
    def is_limited(self) -> bool:
        """Whether the key is limited to some workflows, wallets or connectors."""
        return any(ids is not None for ids in (self.workflow_ids, self.wallet_ids, self.connector_ids))

    def may_use_wallet(self, wallet_id: str) -> bool:
        """Whether the key can access a wallet."""
        return self.wallet_ids is None or wallet_id in self.wallet_ids

    def may_use_connector(self, connector_id: str) -> bool:
        """Whether the key can access a connector."""
        return self.connector_ids is None or connector_id in self.connector_ids

    def need_every_connector(self, doing: str) -> None:
        """Raises `Forbidden` if the key is limited to some connectors; `doing` completes "it cannot …"."""
        if self.connector_ids is not None:
            raise Forbidden(f"The key is limited to some connectors (connectorIds); it cannot {doing}.")

    def need_every_wallet(self, doing: str) -> None:
        """Raises `Forbidden` if the key is limited to some wallets; `doing` completes "it cannot …"."""
        if self.wallet_ids is not None:
            raise Forbidden(f"The key is limited to some wallets (walletIds); it cannot {doing}.")

    def need_every_workflow(self, doing: str) -> None:
        """Raises `Forbidden` if the key is limited to some workflows; `doing` completes "it cannot …"."""
        if self.workflow_ids is not None:
            raise Forbidden(f"The key is limited to some workflows (workflowIds); it cannot {doing}.")

    def need_no_limits(self, doing: str) -> None:
        """Raises `Forbidden` if the key is limited to some workflows, wallets or connectors."""
        self.need_every_workflow(doing)
        self.need_every_wallet(doing)
        self.need_every_connector(doing)


def _is_narrower(ids: frozenset[str] | None, than: frozenset[str] | None) -> bool:
    return than is None or (ids is not None and ids <= than)
