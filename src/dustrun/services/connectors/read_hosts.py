"""Which hosts the dry runs of a key that only simulates may read from: a read can carry data out, in its address.

A definition that somebody drafts could send what it has read elsewhere to a host of its own. So for such keys, and for
turns of the assistant, the host of each request must be written out, and be one that somebody else has named.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Final, NamedTuple

from dustrun.core.text.hosts import HostRule, is_allowed, parse_rule
from dustrun.core.values.exact_json import loads_own
from dustrun.core.workflow.definition import Definition
from dustrun.core.workflow.model_tools import raw_tools
from dustrun.core.workflow.specs import Specs
from dustrun.errors import Code, Invalid, Problem, Refused
from dustrun.outbound.resolver import Target, parse
from dustrun.services.access.principal import Principal
from dustrun.storage.data import connectors
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.workflows import versions, workflows

spoken_hosts: ContextVar[tuple[str, ...]] = ContextVar("spoken_hosts", default=())
"""The texts of the person for whom a turn runs: hosts in them are allowed."""

_CALL: Final = "call-workflow"
_ORIGIN: Final = re.compile(r"https?://[^/?#{]+(?=[/?#]|\Z)", re.I)
_SPOKEN: Final = re.compile(
    r"https?://[a-z0-9_.-]+(?::[0-9]{1,5})?|(?:[a-z0-9_-]+\.)+[a-z]{2,63}(?::[0-9]{1,5})?", re.I
)
_HOSTS: Final = "$hosts"
"""Beside the payload of a tool: the origins among which its model may choose."""
_MOST_CALLED: Final = 50
_MOST_SPOKEN: Final = 200
Node = tuple[str, str, Mapping[str, Any]]


class _Place(NamedTuple):
    """Where an address stands: the node or trigger, and the field as errors name it."""

    name: str
    field: str


class ReadHosts:
    """Refuses dry runs that could read from a host that nobody has named. `named`: the setting `assistant_hosts`."""

    def __init__(self, database: Database, specs: Specs, named: Sequence[str]) -> None:
        self._database = database
        self._specs = specs
        self._named = [parse_rule(entry) for entry in named]

    async def check(self, principal: Principal, definition: Definition) -> None:
        """Raises `Refused` for a key that only simulates, if a request's host is computed or not allowed."""
        if not principal.only_simulates:
            return
        nodes = [
            part
            for name, node in definition.nodes.items()
            for part in _parts(name, {"type": node.type, "payload": node.payload})
        ]
        if not any(kind == _CALL or self._urls_of(kind) for _, kind, _ in nodes):
            return
        spoken = spoken_hosts.get()
        await self._database.read(lambda tx: self._check(tx, principal, nodes, spoken))

    async def check_look(self, principal: Principal, trigger_type: str, config: Mapping[str, Any]) -> None:
        """Raises `Refused` for a key that may start no real run, if a trial of a trigger would ask a host that nobody
        has named."""
        fields = self._specs[trigger_type].url_fields
        if principal.may("workflow:execute") or not fields:
            return
        spoken = spoken_hosts.get()

        def query(tx: Tx) -> None:
            rules = [*self._named, *_spoken(spoken), *_of_connectors(tx, principal)]
            for field in sorted(fields):
                place = _Place(trigger_type, f"config.{field}")
                self._check_url(tx, principal.org_id, place, config.get(field), rules)

        await self._database.read(query)

    def _urls_of(self, kind: str) -> frozenset[str]:
        spec = self._specs.get(kind)
        return spec.url_fields if spec is not None and spec.kind == "action" else frozenset()

    def _check(self, tx: Tx, principal: Principal, nodes: list[Node], spoken: tuple[str, ...]) -> None:
        org_id, rules = principal.org_id, [*self._named, *_spoken(spoken), *_of_connectors(tx, principal)]
        seen: set[str] = set()
        waiting: list[list[Node]] = [nodes]
        while waiting:
            for name, kind, payload in waiting.pop():
                if kind == _CALL:
                    called = _called(tx, org_id, name, payload)
                    key = f"{payload.get('workflowId')}@{payload.get('version')}"
                    if called is not None and key not in seen and len(seen) < _MOST_CALLED:
                        seen.add(key)
                        waiting.append(called)
                    elif key not in seen and len(seen) >= _MOST_CALLED:
                        place = _Place(name, f"nodes.{name}.payload.workflowId")
                        raise _refused(place, f"more than {_MOST_CALLED} workflows would be called")
                for field, value in self._addresses(kind, payload):
                    self._check_url(tx, org_id, _Place(name, f"nodes.{name}.payload.{field}"), value, rules)

    def _addresses(self, kind: str, payload: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        """The addresses of a node or tool, each with its field; where a model chooses, all that it may choose."""
        hosts = payload.get(_HOSTS)
        for field in sorted(self._urls_of(kind)):
            if field in payload or not isinstance(hosts, list | tuple):
                yield field, payload.get(field)
            else:
                yield from (("hosts", one) for one in hosts)

    def _check_url(self, tx: Tx, org_id: str, place: _Place, value: Any, rules: list[HostRule]) -> None:
        found = _ORIGIN.match(value) if isinstance(value, str) else None
        if found is None:
            raise _refused(place, "the host is computed; write it out, up to the `/` after it")
        try:
            target = parse(found[0])
        except Invalid as error:
            raise _refused(place, error.message) from None
        if is_allowed(rules, target.url.scheme, target.host, target.port) or self._is_live(tx, org_id, target):
            return
        raise _refused(
            place,
            f'"{target.host}" is in no live version, in no connector\'s allowedHosts, not in the setting '
            "assistant_hosts, and the person has not named it",
        )

    def _is_live(self, tx: Tx, org_id: str, target: Target) -> bool:
        """Whether a live version of the organisation reads from or writes to that host."""
        for text in versions.list_live_with(tx, org_id, target.host):
            for node in loads_own(text)["nodes"].values():
                for field in self._urls_of(node["type"]):
                    value = (node.get("payload") or {}).get(field)
                    found = _ORIGIN.match(value) if isinstance(value, str) else None
                    if found is not None and _is_same(found[0], target):
                        return True
        return False


def _is_same(origin: str, target: Target) -> bool:
    try:
        return parse(origin).origin == target.origin
    except Invalid:
        return False


def _called(tx: Tx, org_id: str, name: str, payload: Mapping[str, Any]) -> list[Node] | None:
    """The nodes of the version that a call runs; None if there is none, and the call will fail."""
    workflow_id, version = payload.get("workflowId"), payload.get("version")
    if not isinstance(workflow_id, str) or "{{" in workflow_id or not isinstance(version, int | None):
        place = _Place(name, f"nodes.{name}.payload.workflowId")
        raise _refused(place, "what it calls is computed; write the workflow and its version out")
    row = workflows.find(tx, org_id, workflow_id)
    if row is None:
        return None
    found = versions.find(tx, row.id, version or row.live_version or row.latest_version)
    if found is None:
        return None
    nodes = loads_own(found.definition)["nodes"]
    return [part for one, node in nodes.items() for part in _parts(f"{name} → {one}", node)]


def _parts(name: str, node: Mapping[str, Any]) -> Iterator[Node]:
    """A node, and the tools of its model: each reads by itself."""
    yield name, node["type"], node.get("payload") or {}
    for place, tool in raw_tools(node):
        payload = tool.get("payload")
        given = payload if isinstance(payload, dict) else {}
        yield f"{name}.{place}", str(tool.get("type")), {**given, _HOSTS: tool.get("hosts")}


def _of_connectors(tx: Tx, principal: Principal) -> Iterator[HostRule]:
    reached = principal.connector_ids
    for row in connectors.list_page(tx, principal.org_id, type_=None, limit=1_000, offset=0, only=reached):
        yield from (parse_rule(entry) for entry in loads_own(row.allowed_hosts))


def _spoken(texts: tuple[str, ...]) -> Iterator[HostRule]:
    found = [match for text in texts for match in _SPOKEN.findall(text)]
    for entry in found[:_MOST_SPOKEN]:
        try:
            yield parse_rule(entry.rstrip("."))
        except ValueError:
            continue


def _refused(place: _Place, why: str) -> Refused:
    message = f'This key may not read from where "{place.name}" does: {why}.'
    return Refused(message, code=Code.HOST_NOT_ALLOWED, details=[Problem(place.field, why)])
