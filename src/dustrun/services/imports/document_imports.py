"""OpenAPI documents whose operations are node types of an organisation: imported, renewed, searched, removed.

A version comes in by many writes, so that none holds up others, and counts from the last one on, as
`storage/data/catalog.py` says. Nodes stay pinned to what they were saved with.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from dustrun import clock, ids
from dustrun.core.openapi.document import MOST_BYTES
from dustrun.core.openapi.operation import ImportedOperation, read_operation
from dustrun.core.values import exact_json
from dustrun.core.workflow.specs import api_of
from dustrun.errors import Code, Conflict, Invalid, NotFound, Problem
from dustrun.outbound.client import OutboundClient
from dustrun.outbound.resolver import parse
from dustrun.records import dataclass
from dustrun.sandbox.documents import DocumentReader, ReadDocument, ReadOperation
from dustrun.sdk.context import HttpRequest
from dustrun.sdk.threads import run_beside
from dustrun.services.access import audit, hands, idempotency
from dustrun.services.access.paging import Page, Paging, page_of
from dustrun.services.access.principal import Principal
from dustrun.services.imports.imported_types import similar_types
from dustrun.services.imports.known_services import (
    KnownService,
    favoured_types,
    get_service,
    list_services,
    summaries_of,
)
from dustrun.storage.access.hands import deleted
from dustrun.storage.data import catalog as rows
from dustrun.storage.data.catalog import FoundOperation, ImportRow, OperationRow, VersionRow
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer

_STALE_MS: Final = 600_000
"""An import that has not gone on for so long has ended with its server."""
_FETCH_S: Final = 120.0
_PER_DELETE: Final = 500
_MOST_NAMED: Final = 100
_MOST_WORD_CHARS: Final = 1_000
_ACCEPT: Final = "application/json, application/yaml;q=0.9, text/yaml;q=0.9, */*;q=0.8"
Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedImport:
    """The caller's settings; None: as before. `document`: JSON, or the text of JSON or YAML. `service`: a known one,
    which says where its document is unless the caller does."""

    url: str | None = None
    document: Json | str | None = None
    service: str | None = None
    name: str | None = None
    server: str | None = None
    variables: Mapping[str, str] | None = None
    effects: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class UsedOperation:
    """An operation that a node is pinned to. `state`: `current`, or what the version in use has instead: `changed`, or
    `removed`."""

    type: str
    pin: str
    state: str


@dataclass(frozen=True, slots=True)
class ImportUser:
    """A draft or live version that uses operations of an import."""

    workflow_id: str
    name: str
    version: int
    operations: tuple[UsedOperation, ...]


@dataclass(frozen=True, slots=True)
class DocumentImport:
    """An import with its newest version and the workflows that use it, as far as the caller may read them."""

    row: ImportRow
    version: VersionRow
    users: tuple[ImportUser, ...]


@dataclass(frozen=True, slots=True)
class FoundService:
    """A known service, and the names of the imports of it."""

    service: KnownService
    imports: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ShownOperation:
    """One operation in full."""

    pin: str
    operation: ImportedOperation


class DocumentImports:
    """Imports OpenAPI documents."""

    def __init__(self, database: Database, writer: Writer, http: OutboundClient) -> None:
        self._database = database
        self._writer = writer
        self._http = http
        self._reader = DocumentReader()

    async def close(self) -> None:
        """Ends the process that reads documents."""
        await self._reader.close()

    # --- reading ---

    async def get(self, principal: Principal, wanted: str) -> DocumentImport:
        """One import, by id or name; raises `NotFound`."""
        return await self._database.read(lambda tx: _load(tx, principal, _get(tx, principal, wanted)))

    async def list_page(self, principal: Principal, paging: Paging) -> Page[DocumentImport]:
        """The organisation's imports, by name."""

        def query(tx: Tx) -> Page[DocumentImport]:
            found = rows.list_page(tx, principal.org_id, limit=paging.peek, offset=paging.offset)
            return page_of([_load(tx, principal, row, with_users=False) for row in found], paging)

        return await self._database.read(query)

    async def search(self, principal: Principal, text: str, api: str, paging: Paging) -> Page[FoundOperation]:
        """The operations in use, the best first."""

        def query(tx: Tx) -> list[FoundOperation]:
            favoured = favoured_types(tx, principal.org_id) if text else set[str]()
            given = {"api": api, "limit": paging.peek, "offset": paging.offset, "favoured": favoured}
            return rows.search(tx, principal.org_id, text, **given)  # type: ignore[arg-type]

        return page_of(await self._database.read(query), paging)

    async def list_services(self, principal: Principal, text: str, paging: Paging) -> Page[FoundService]:
        """The known services that have words beginning with those of the text, by title."""
        found = list_services(text)[paging.offset : paging.offset + paging.peek]
        return page_of(await self._with_imports(principal, found), paging)

    async def get_service(self, principal: Principal, name: str) -> FoundService:
        """One known service; raises `NotFound`."""
        return (await self._with_imports(principal, [get_service(name)]))[0]

    async def _with_imports(self, principal: Principal, services: Sequence[KnownService]) -> list[FoundService]:
        imported = await self._database.read(lambda tx: rows.list_services(tx, principal.org_id))
        return [FoundService(one, tuple(name for name, service in imported if service == one.name)) for one in services]

    async def get_operation(self, principal: Principal, kind: str, pin: str | None) -> ShownOperation:
        """One operation: the pinned one, or that of the version in use. Raises `NotFound`."""

        def query(tx: Tx) -> ShownOperation:
            found = rows.find_operation(tx, principal.org_id, kind, pin)
            if found is None:
                near = " or ".join(f'"{one}"' for one in similar_types(tx, principal.org_id, kind) if one != kind)
                hint = f" Did you mean {near}?" if near else ""
                raise NotFound(f'No imported document has the operation "{kind[:160]}".{hint}', code=Code.TYPE_UNKNOWN)
            return ShownOperation(found[0], read_operation(zlib.decompress(found[1])))

        return await self._database.read(query)

    # --- importing ---

    async def add(self, principal: Principal, asked: AskedImport) -> DocumentImport:
        """Imports a document; raises `Conflict` if its name is taken."""
        service = None if asked.service is None else _service(asked)
        url, name, server = asked.url, asked.name, asked.server
        if service is not None:
            url = service.document if url is None and asked.document is None else url
            name, server = name or service.name, server or service.server
        content, base = await self._content(url, asked.document)
        choice = {"url": url, "server": server, "variables": dict(asked.variables or {}), "service": asked.service}
        return await self._bring_in(principal, None, name, content, base, choice, dict(asked.effects or {}))

    async def renew(self, principal: Principal, wanted: str, asked: AskedImport) -> DocumentImport:
        """Imports the document of an import again; nodes stay with what they are pinned to."""
        row = await self._database.read(lambda tx: _get(tx, principal, wanted))
        before = exact_json.loads(row.choice)
        url = asked.url if asked.url is not None or asked.document is not None else before["url"]
        if url is None and asked.document is None:
            raise _invalid("document", "It was imported without a URL: give the new `document`, or a `url`.")
        content, base = await self._content(url, asked.document)
        choice = {
            "url": url,
            "server": before["server"] if asked.server is None else asked.server or None,
            "variables": before["variables"] if asked.variables is None else dict(asked.variables),
            "service": before.get("service"),
        }
        effects = {**exact_json.loads(row.effects), **(asked.effects or {})}
        return await self._bring_in(principal, row, row.name, content, base, choice, effects)

    async def _content(self, url: str | None, document: Json | str | None) -> tuple[bytes, str | None]:
        """The document, and the address that it came from."""
        if (url is None) is (document is None):
            raise _invalid("url", "Give either `url` or `document`.")
        if isinstance(document, str):
            return document.encode(), None
        if document is not None:
            return await run_beside(exact_json.dumps, document), None
        assert url is not None
        request = HttpRequest("GET", url, {"Accept": _ACCEPT}, timeout_s=_FETCH_S, max_bytes=MOST_BYTES, safe=True)
        try:
            answer = await self._http.request(request)
        except Invalid as error:
            raise _invalid("url", error.message) from None
        if answer.status >= 300:
            raise _invalid("url", f"The address answered with status {answer.status} instead of a document.")
        return answer.body, answer.url

    async def _bring_in(
        self,
        principal: Principal,
        old: ImportRow | None,
        name: str | None,
        content: bytes,
        base: str | None,
        choice: Json,
        effects: dict[str, str],
    ) -> DocumentImport:
        hashed = await run_beside(lambda: hashlib.sha256(content).hexdigest())
        options = {"name": name, "base": base, "effects": effects}
        options["summaries"] = summaries_of(choice["service"], name)
        options |= {"server": choice["server"], "variables": choice["variables"] or None}
        async with self._reader.reading(content, options) as document:
            staged = await self._begin(principal, old, str(document.known["name"]))
            try:
                changes = await self._stage(staged, document)
                _check_effects(effects, changes.types)
                return await self._finish(principal, staged, document, hashed, choice, effects, changes)
            except BaseException:
                await self._writer.write(lambda tx: rows.unstage(tx, staged.row, staged.token))
                raise

    async def _begin(self, principal: Principal, old: ImportRow | None, name: str) -> _Staged:
        """Reserves the name and the next version."""
        token, now = ids.new_id("stage"), clock.now_ms()
        fresh = ImportRow(
            id=ids.new_id("imp"),
            org_id=principal.org_id,
            name=name,
            number=0,
            document="{}",
            choice="{}",
            effects="{}",
            operations=0,
            staging=None,
            staging_at=None,
            created_by=principal.key_id,
            created_at=now,
            updated_at=now,
        )

        def unit(tx: Tx) -> _Staged:
            row = rows.find(tx, principal.org_id, old.id if old is not None else name)
            if old is None and row is not None and row.number:
                message = f'There is already an import "{name}"; renew it, or give another `name`.'
                raise Conflict(message, code=Code.IMPORT_NAME_TAKEN, details=[Problem("name", message)])
            if old is not None and row is None:
                raise _unknown(old.id)
            if row is None:
                rows.insert(tx, fresh)
                row = fresh
            if not rows.stage(tx, row, token, at=now, before=now - _STALE_MS):
                raise Conflict(f'"{name}" is being imported already; try again later.', code=Code.IMPORT_BUSY)
            return _Staged(row, token, row.number + 1)

        return await self._writer.write(unit)

    async def _stage(self, staged: _Staged, document: ReadDocument) -> _Changes:
        """Writes what differs from the version in use, some operations at a time."""
        row, number = staged.row, staged.number
        left = await self._database.read(lambda tx: rows.current_pins(tx, row.id))
        changes, servers = _Changes(), set[str]()
        async for batch in document.batches:
            self._check_servers(batch, servers)
            fresh, closed = [], []
            for one in batch:
                kind = str(one.known["type"])
                changes.types.add(kind)
                before = left.pop(kind, None)
                if before == one.known["pin"]:
                    continue
                fresh.append(_row_of(row, number, one))
                if before is None:
                    changes.added.append(kind)
                else:
                    closed.append(kind)
            changes.changed += closed
            await self._write(staged, fresh, closed)
        changes.removed = sorted(left)
        for start in range(0, len(changes.removed), _PER_DELETE):
            await self._write(staged, [], changes.removed[start : start + _PER_DELETE])
        return changes

    def _check_servers(self, batch: Sequence[ReadOperation], checked: set[str]) -> None:
        """Refuses servers to which no request could go."""
        for server in {str(one.known["server"]) for one in batch} - checked:
            target = parse(server)
            refusal = self._http.guard.find_refusal(target.host, target.address, target.port)
            if refusal is not None:
                raise _invalid("server", f'Its server "{server[:200]}" cannot be reached: {refusal}')
            checked.add(server)

    async def _write(self, staged: _Staged, fresh: list[OperationRow], closed: list[str]) -> None:
        def unit(tx: Tx) -> None:
            if not rows.keep_staging(tx, staged.row.id, staged.token, clock.now_ms()):
                raise Conflict("Somebody else imports the same document now.", code=Code.IMPORT_BUSY)
            rows.close_operations(tx, staged.row.id, closed, staged.number)
            rows.add_operations(tx, fresh)

        if fresh or closed:
            await self._writer.write(unit)

    async def _finish(
        self,
        principal: Principal,
        staged: _Staged,
        document: ReadDocument,
        hashed: str,
        choice: Json,
        effects: Json,
        changes: _Changes,
    ) -> DocumentImport:
        known, now = dict(document.known), clock.now_ms()
        row = replace(
            staged.row,
            document=exact_json.dumps_text({name: known[name] for name in _KEPT}),
            choice=exact_json.dumps_text(choice),
            effects=exact_json.dumps_text(effects),
        )
        version = VersionRow(
            import_id=row.id,
            number=staged.number,
            hash=hashed,
            operations=known["operations"],
            changes=exact_json.dumps_text(changes.shown()),
            created_by=principal.key_id,
            created_at=now,
        )

        def unit(tx: Tx) -> DocumentImport:
            if not rows.activate(tx, row, staged.token, version):
                raise Conflict("Somebody else imports the same document now.", code=Code.IMPORT_BUSY)
            hands.note(tx, principal, "import", row.name, is_new=staged.number == 1)
            counts = {"operations": version.operations, "version": version.number, "hash": hashed}
            audit.record(
                tx,
                principal,
                "import.create" if staged.number == 1 else "import.renew",
                row.id,
                name=row.name,
                **counts,
            )
            return _load(tx, principal, _get(tx, principal, row.id))

        return await idempotency.write(self._writer, unit, creates=("id", row.id))

    # --- removing ---

    async def delete(self, principal: Principal, wanted: str) -> DocumentImport:
        """Removes an import; raises `Conflict` with the workflows that use it."""

        def unit(tx: Tx) -> DocumentImport:
            found = _load(tx, principal, _get(tx, principal, wanted))
            users = rows.list_users(tx, principal.org_id, found.row.name)
            used = {user[0]: user[1] for user in users if next(_pins_in(user[3], found.row.name), None) is not None}
            if used:
                details: list[Json] = [
                    {"field": "id", "message": f'used by the workflow "{name}"', "workflowId": workflow_id}
                    for workflow_id, name in used.items()
                    if principal.may_read_workflow(workflow_id)
                ]
                message = f"{len(used)} workflow{'s use' if len(used) > 1 else ' uses'} operations of this import."
                raise Conflict(message, code=Code.IMPORT_IN_USE, details=details)
            rows.hide(tx, found.row.id, clock.now_ms())
            hands.note(tx, principal, "import", deleted(found.row.name), is_new=True)
            audit.record(tx, principal, "import.delete", found.row.id, name=found.row.name)
            return found

        found = await idempotency.write(self._writer, unit)
        while await self._writer.write(lambda tx: rows.delete_some(tx, found.row.id, _PER_DELETE)):
            pass
        await self._writer.write(lambda tx: rows.delete(tx, found.row.id))
        return found


_KEPT: Final = ("title", "version", "format", "leftOut", "counts", "renamed")


@dataclass(frozen=True, slots=True)
class _Staged:
    """A version that comes in."""

    row: ImportRow
    token: str
    number: int


class _Changes:
    """The changes of a version, by type; `types` are all that it has."""

    def __init__(self) -> None:
        self.types: set[str] = set()
        self.added: list[str] = []
        self.changed: list[str] = []
        self.removed: list[str] = []

    def shown(self) -> Json:
        """As it is kept: how many, and the first."""
        return {
            name: {"count": len(found), "types": found[:_MOST_NAMED]}
            for name, found in (("added", self.added), ("changed", self.changed), ("removed", self.removed))
        }


def _row_of(row: ImportRow, number: int, one: ReadOperation) -> OperationRow:
    known = one.known
    words = " ".join(dict.fromkeys([rows.org_word(row.org_id), *rows.words_of(str(known["words"]))]))
    return OperationRow(
        org_id=row.org_id,
        import_id=row.id,
        type=known["type"],
        pin=known["pin"],
        since=number,
        until=None,
        method=known["method"],
        server=known["server"],
        effect=known["effect"],
        summary=known["summary"],
        words=words[:_MOST_WORD_CHARS],
        content=one.content,
    )


def _check_effects(effects: Mapping[str, str], types: set[str]) -> None:
    unknown = sorted(effects.keys() - types)
    if unknown:
        raise _invalid(f"effects.{unknown[0][:160]}", f'The document has no operation "{unknown[0][:160]}".')


def _service(asked: AskedImport) -> KnownService:
    """The service that is asked for; raises `Invalid` if it needs an address that is not given."""
    assert asked.service is not None
    try:
        service = get_service(asked.service)
    except NotFound as error:
        raise _invalid("service", error.message) from None
    if service.needs_server and not asked.server:
        raise _invalid("server", f"{service.title} has an address for each customer. Give: {service.needs_server}.")
    return service


def _get(tx: Tx, principal: Principal, wanted: str) -> ImportRow:
    row = rows.find(tx, principal.org_id, wanted)
    if row is None or not row.number:
        raise _unknown(wanted)
    return row


def _unknown(wanted: str) -> NotFound:
    return NotFound(f'There is no import "{wanted[:160]}".', code=Code.IMPORT_UNKNOWN)


def _invalid(field: str, message: str) -> Invalid:
    return Invalid(message, code=Code.PARAMETER_INVALID, details=[Problem(field, message)])


def _load(tx: Tx, principal: Principal, row: ImportRow, *, with_users: bool = True) -> DocumentImport:
    version = rows.list_versions(tx, row.id, limit=1, offset=0)[0]
    users = tuple(_users(tx, principal, row)) if with_users else ()
    return DocumentImport(row, version, users)


def _users(tx: Tx, principal: Principal, row: ImportRow) -> Iterator[ImportUser]:
    current: dict[str, str | None] = {}
    for workflow_id, name, version, definition in rows.list_users(tx, row.org_id, row.name):
        used = sorted(set(_pins_in(definition, row.name)))
        if not used or not principal.may_read_workflow(workflow_id):
            continue
        for kind in {kind for kind, _ in used} - current.keys():
            found = rows.find_operation(tx, row.org_id, kind, None)
            current[kind] = found[0] if found else None
        shown = (UsedOperation(kind, pin, _state(pin, current[kind])) for kind, pin in used)
        yield ImportUser(workflow_id, name, version, tuple(shown))


def _state(pin: str, current: str | None) -> str:
    return "removed" if current is None else "current" if pin == current else "changed"


def _pins_in(definition: str, api: str) -> Iterator[tuple[str, str]]:
    """The operations of an API that nodes of a definition are pinned to: type and pin."""
    for node in exact_json.loads_own(definition)["nodes"].values():
        if api_of(node["type"]) == api:
            yield node["type"], str((node.get("payload") or {}).get("operation") or "")
