"""Tools of MCP servers: reads them for a connector, and keeps what somebody has looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, Literal

from dustrun import clock
from dustrun.core.json_schema.schema import check_schema
from dustrun.core.text.masking import Mask
from dustrun.core.values import exact_json
from dustrun.core.workflow.definition import ConnectorReference
from dustrun.errors import Code, Conflict, Invalid, NotFound, Permanent, Problem, Refused
from dustrun.records import dataclass
from dustrun.sdk.mcp.tools import ListedTool
from dustrun.sdk.threads import run_beside
from dustrun.services.access import audit, hands, idempotency
from dustrun.services.access.principal import Principal
from dustrun.services.connectors.connections import Connections, OpenConnector
from dustrun.services.connectors.connectors import Connectors
from dustrun.services.connectors.mcp_probe import list_tools
from dustrun.storage.data import connectors as rows
from dustrun.storage.data.connectors import ConnectorRow
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer

Effect = Literal["read", "write"]
_MOST_BYTES: Final = 400_000
_MOST_CHARS: Final = 2_000


@dataclass(frozen=True, slots=True)
class SeenTool:
    """A tool as it was looked at. `was`: `new`, `same` or `changed` since it was read before; None if not read now."""

    name: str
    known: Mapping[str, Any]
    was: str | None = None


class McpTools:
    """Reads and keeps the tools of connectors of type `mcp`."""

    def __init__(self, writer: Writer, connectors: Connectors, connections: Connections) -> None:
        self._writer = writer
        self._connectors = connectors
        self._connections = connections

    async def list_seen(self, principal: Principal, connector_id: str) -> list[SeenTool]:
        """The tools as they were looked at."""
        row = await self._find(principal, connector_id)
        return [SeenTool(name, known) for name, known in _known(row).items()]

    async def read(self, principal: Principal, connector_id: str, effects: Mapping[str, Effect]) -> list[SeenTool]:
        """Reads the server's tools and keeps them as looked at. A tool that is new or has changed is a write; of others
        `effects` may say otherwise. Tools that the server no longer has are forgotten."""
        row = await self._find(principal, connector_id)
        opened = await self._connections.open(principal.org_id, ConnectorReference(type="mcp", id=row.id), Mask())
        listed = await list_tools(self._connections, opened)
        found = await run_beside(_compared, opened, listed, effects)
        plain = exact_json.dumps_text({one.name: one.known for one in found})
        if len(plain.encode()) > _MOST_BYTES:
            raise Permanent(f"The descriptions and schemas of the server's tools have more than {_MOST_BYTES} bytes.")

        def unit(tx: Tx) -> list[SeenTool]:
            current = rows.find(tx, principal.org_id, row.id)
            if current is None or current.version != row.version:
                raise Conflict("The connector has changed meanwhile; try again.", code=Code.VERSION_MOVED)
            rows.update(tx, replace(current, version=row.version + 1, tools=plain, updated_at=clock.now_ms()))
            hands.note(tx, principal, "connector", row.id)
            detail = {name: [one.name for one in found if one.was == name] for name in ("new", "changed")}
            reads = [one.name for one in found if one.known["effect"] == "read"]
            audit.record(tx, principal, "connector.tools", row.id, reading=reads, **detail)
            return found

        return await idempotency.write(self._writer, unit)

    async def _find(self, principal: Principal, connector_id: str) -> ConnectorRow:
        row = await self._connectors.get(principal, connector_id)
        if row.type != "mcp":
            message = f'A connector of type "{row.type}" has no tools; one of type "mcp" has.'
            raise Invalid(message, code=Code.PARAMETER_INVALID)
        return row


def _known(row: ConnectorRow) -> dict[str, Any]:
    found: dict[str, Any] = exact_json.loads(row.tools) if row.tools is not None else {}
    return found


def _compared(opened: OpenConnector, listed: Mapping[str, ListedTool], effects: Mapping[str, Effect]) -> list[SeenTool]:
    before = opened.connection.tools
    found = []
    for name, tool in listed.items():
        known = before.get(name)
        was = "new" if known is None else "same" if known["hash"] == tool.hash else "changed"
        kept: Effect = known["effect"] if known is not None and was == "same" else "write"
        found.append(SeenTool(name, _shown(opened.mask, tool, effects.get(name, kept)), was))
    _check_effects(found, effects)
    return found


def _shown(mask: Mask, tool: ListedTool, effect: Effect) -> dict[str, Any]:
    return {
        "hash": tool.hash,
        "effect": effect,
        "hint": "read" if tool.is_called_reading else "write",
        "problem": _problem(tool),
        "description": mask.text(tool.description[:_MOST_CHARS]),
        "inputSchema": mask.value(_plain_schema(tool.input_schema)),
        "outputSchema": None if tool.output_schema is None else mask.value(_plain_schema(tool.output_schema)),
    }


def _check_effects(found: list[SeenTool], effects: Mapping[str, Effect]) -> None:
    """Whether a tool that was looked at only reads, and is still the same."""
    was = {one.name: one.was for one in found}
    for name, effect in effects.items():
        field = f"effects.{name[:128]}"
        if name not in was:
            message = f'The server has no tool "{name[:128]}".'
            raise NotFound(message, code=Code.MCP_TOOL_UNKNOWN, details=[Problem(field, message)])
        if effect == "read" and was[name] != "same":
            message = (
                f'The tool "{name}" is {was[name]}: read the tools and look at it first, then say that it only reads.'
            )
            raise Refused(message, code=Code.MCP_TOOL_CHANGED, details=[Problem(field, message)])


def _plain_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Without the dialect: most servers name an old one and use nothing that differs."""
    return {name: value for name, value in schema.items() if name != "$schema"}


def _problem(tool: ListedTool) -> str | None:
    for what, schema in (("input", tool.input_schema), ("output", tool.output_schema)):
        try:
            check_schema(_plain_schema(schema or {}))
        except ValueError as error:
            return f"its {what} schema {error}"[:500]
    return None
