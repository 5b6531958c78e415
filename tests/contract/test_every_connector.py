"""Every type of connectors keeps the contract: documented, its secrets marked, its example good, nothing shown."""

from __future__ import annotations

import inspect
from dataclasses import fields
from pathlib import Path

import jsonschema
import pytest

import dustrun
from dustrun import catalog
from dustrun.sdk import HttpRequest
from dustrun.sdk.connector import MASK, Connector
from dustrun.sdk.fields import hinted_fields

CATALOG = catalog.load()
CONNECTORS = list(CATALOG.connectors.values())
GUIDE = Path(__file__).parent.parent.parent / "docs/guides/connectors.md"

every = pytest.mark.parametrize("connector", CONNECTORS, ids=[connector.type for connector in CONNECTORS])


def test_every_file_of_the_folder_is_found() -> None:
    files = {path.stem for path in (Path(dustrun.__file__).parent / "connectors").glob("*.py")} - {"__init__"}
    assert {name.replace("_", "-") for name in files} == set(CATALOG.connectors)


@every
def test_it_is_documented(connector: Connector) -> None:
    assert connector.summary.endswith(".")
    assert connector.description
    assert f"`{connector.type}`" in GUIDE.read_text()
    assert all(info.description for info in connector.data.model_fields.values())
    assert inspect.getdoc(connector.run)


@every
def test_its_example_is_good_and_its_secrets_are_hidden(connector: Connector) -> None:
    shown = CATALOG.public_connector(connector.type)
    schema = jsonschema.Draft202012Validator(shown["dataSchema"])
    schema.validate(connector.example)
    for name in connector.secret_fields:  # as the server refuses it, since it could not be masked
        assert not schema.is_valid({**connector.example, name: "12345"})
    data = connector.data.model_validate(connector.example)
    secrets = connector.secrets(data)
    assert secrets
    masked = connector.masked(data)
    assert all(masked[name] == MASK for name in connector.secret_fields if name in masked)
    assert not any(secret in str(masked) + repr(data) for secret in secrets)
    assert connector.secret_fields == hinted_fields(connector.data, "x-secret")


@every
def test_it_puts_its_secret_on_a_request_and_changes_nothing_else(connector: Connector) -> None:
    data = connector.data.model_validate(connector.example)
    bare = HttpRequest("POST", "https://api.example.com/orders?a=1", {"X-Own": "kept"}, b"body", max_redirects=3)
    if connector.kind == "secret":
        assert connector.run(data) is None
        return
    if connector.kind == "token":
        asked = connector.run(data)
        assert (asked.method, asked.max_redirects, asked.safe) == ("POST", 0, not connector.needs_consent)
        return
    sent = connector.run(data, bare)
    assert (sent.url, dict(sent.headers)) != (bare.url, dict(bare.headers))
    assert sent.headers["X-Own"] == "kept"
    assert sent.url.startswith(bare.url)
    same = [field.name for field in fields(HttpRequest) if field.name not in ("url", "headers")]
    assert [getattr(sent, name) for name in same] == [getattr(bare, name) for name in same]
    assert connector.run(data, sent) == sent
