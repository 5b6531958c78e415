"""Who asks: the organisation, key and permissions behind one call."""

from __future__ import annotations

from dataclasses import dataclass

from dustrun.errors import Forbidden

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
        "chat:read",
        "chat:write",
        "admin",
    ]
)


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller. The permission `admin` holds every other one."""

    key_id: str
    org_id: str
    permissions: frozenset[str]

    def may(self, permission: str) -> bool:
        """Whether the caller holds the permission."""
        return permission in self.permissions or "admin" in self.permissions

    def need(self, permission: str) -> None:
        """Raises `Forbidden` without the permission."""
        if not self.may(permission):
            raise Forbidden(f'The key lacks the permission "{permission}".')
