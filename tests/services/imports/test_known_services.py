"""Services that Dustrun knows: what their files hold, how they are found and imported, and what is refused."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dustrun import catalog
from dustrun.core.openapi.naming import API
from dustrun.errors import Code
from dustrun.services.imports.known_services import KnownService, all_services
from testkit.composition import Client, Composition, composed

DOCUMENT = {
    "openapi": "3.0.3",
    "info": {"title": "A part of GitHub", "version": "1"},
    "servers": [{"url": "https://api.github.com"}],
    "paths": {
        "/issues": {"post": {"operationId": "issues/create", "summary": "Create an issue"}},
        "/create": {"post": {"operationId": "issues/create-x", "summary": "Create"}},
    },
}


@pytest.fixture
async def server(tmp_path: Path, store_url: str) -> AsyncIterator[Composition]:
    async with composed(tmp_path, database_url=store_url) as composition:
        yield composition


@pytest.fixture
def api(server: Composition) -> Client:
    return server.owner


@pytest.mark.parametrize("service", all_services().values(), ids=lambda one: one.name)
def test_a_service_says_all_that_a_person_needs(service: KnownService) -> None:
    assert API.fullmatch(service.name)
    assert service.connectors
    assert set(service.connectors) <= catalog.load().connectors.keys()
    for address in (service.document, service.website, service.server or service.document):
        assert re.fullmatch(r"https://[^\s{}]+[^/\s{}]", address), address
    assert service.server is None or service.needs_server is None
    for text, most in ((service.summary, 120), (service.credential, 160), (service.needs_server or "-", 160)):
        assert 0 < len(text) <= most, text
        assert not text.endswith("."), text
    assert 5 < len(service.operations) <= 15
    for summary in service.operations.values():
        assert 0 < len(summary) <= 80, summary
        assert summary[0].isupper(), summary
        assert not summary.endswith("."), summary
    assert service.test is None or service.test.operation in service.operations


async def test_services_are_listed_and_found_by_what_they_do(api: Client) -> None:
    everything = (await api.get("/v1/catalog/services?limit=100")).data["items"]
    assert {one["name"] for one in everything} == all_services().keys()
    assert everything == sorted(everything, key=lambda one: one["title"].lower())
    page = (await api.get("/v1/catalog/services?limit=1&offset=1")).data
    assert (page["items"], page["hasMore"]) == (everything[1:2], True)
    found = (await api.get("/v1/catalog/services?q=GITH%20issue")).data["items"]
    assert [(one["name"], one["imports"]) for one in found] == [("github", [])]
    assert (await api.get("/v1/catalog/services?q=nosuchword")).data["items"] == []
    shown = (await api.get("/v1/catalog/services/github")).data
    assert {one["name"] for one in shown["operations"]} == all_services()["github"].operations.keys()
    assert shown["test"]["operation"] in all_services()["github"].operations


@pytest.mark.both_stores
async def test_an_import_of_a_service_has_its_name_and_its_summaries(api: Client) -> None:
    made = (await api.post("/v1/catalog/imports", {"service": "github", "document": DOCUMENT})).data
    assert (made["name"], made["service"], made["url"]) == ("github", "github", None)
    found = (await api.get("/v1/catalog/operations?q=create%20issues")).data["items"]
    summary = all_services()["github"].operations["issues-create"]
    assert [(one["type"], one["summary"]) for one in found] == [
        ("github.issues-create", summary),  # the other has a shorter text, but is not what people automate
        ("github.issues-create-x", "Create"),
    ]
    shown = (await api.get("/v1/catalog/operations/github.issues-create")).data
    assert (shown["summary"], shown["description"]) == (summary, "Create an issue")
    assert (await api.get("/v1/catalog/services/github")).data["imports"] == ["github"]

    renewed = (await api.post("/v1/catalog/imports/github/renew", {"document": DOCUMENT})).data
    assert (renewed["service"], renewed["version"]) == ("github", 2)
    assert [renewed["changes"][kind]["count"] for kind in ("added", "changed", "removed")] == [0, 0, 0]
    other = (await api.post("/v1/catalog/imports", {"document": DOCUMENT, "name": "mine"})).data
    assert other["service"] is None
    assert (await api.get("/v1/catalog/services/github")).data["imports"] == ["github"]


async def test_what_a_service_lacks_is_asked_for(api: Client) -> None:
    unknown = await api.post("/v1/catalog/imports", {"service": "githb"})
    assert (unknown.status, unknown.body["details"][0]["field"]) == (400, "service")
    assert 'Did you mean "github"?' in unknown.body["message"]
    missing = await api.get("/v1/catalog/services/nothing-like-it")
    assert (missing.status, missing.code) == (404, Code.SERVICE_UNKNOWN)
    without = await api.post("/v1/catalog/imports", {"service": "jira", "document": DOCUMENT})
    assert (without.status, without.body["details"][0]["field"]) == (400, "server")
    assert "atlassian.net" in without.body["message"]
    server = {"server": "https://example.atlassian.net"}
    made = (await api.post("/v1/catalog/imports", {"service": "jira", "document": DOCUMENT, **server})).data
    assert (made["name"], made["server"]) == ("jira", server["server"])


def test_consent_pages_fill_the_data_of_a_connector() -> None:
    type_ = catalog.load().connector("oauth2-authorization-code")
    known = {name: one.consent for name, one in all_services().items() if one.consent is not None}
    assert len(known) >= 15
    for name, preset in known.items():
        data: dict[str, object] = {"authorizeUrl": preset.authorize_url, "tokenUrl": preset.token_url, "clientId": "me"}
        data |= {"clientAuth": preset.client_auth, "authorizeParameters": dict(preset.authorize_parameters)}
        type_.data.model_validate(data)
        assert preset.docs.startswith("https://"), name
        assert "oauth2-authorization-code" in all_services()[name].connectors
