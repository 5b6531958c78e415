"""What makes two definitions equal, and what differs between them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dustrun.core.workflow.definition import Definition
from dustrun.services.access.principal import Principal
from dustrun.services.workflows.versions import differences, hash_of, make_version

values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3) | st.decimals(-5, 5, places=2),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text("ab", min_size=1, max_size=2), inner, max_size=3)
    ),
    max_leaves=6,
)
BY = Principal("key_1", "org_1", frozenset(["workflow:create"]))
payloads = st.dictionaries(st.text("ab", min_size=1, max_size=2), values, max_size=3)


def _document(payload: dict[str, Any]) -> dict[str, Any]:
    return {"nodes": {"root": {"type": "manual", "payload": payload}}}


def test_a_version_keeps_the_authors_document_and_what_lists_need() -> None:
    document = {
        "nodes": {
            "root": {"type": "cron", "children": ["b"]},
            "b": {"type": "log", "pinned": None, "connector": {"type": "slack", "id": "c"}},
        },
        "triggerNodeIds": ["root"],
    }
    definition = Definition.model_validate(document)
    version = make_version("wf_1", 4, definition, BY)
    assert (version.trigger_type, version.node_types, version.connector_types) == ("cron", " cron log ", " slack ")
    assert (version.node_count, version.version, version.author_wallets) == (2, 4, None)
    assert version.definition == (
        '{"nodes":{"root":{"type":"cron","children":["b"]},'
        '"b":{"type":"log","connector":{"type":"slack","id":"c"},"pinned":null}},"triggerNodeIds":["root"]}'
    )


@given(payload=payloads)
def test_the_order_of_keys_does_not_make_a_version(payload: dict[str, Any]) -> None:
    backwards = dict(reversed(payload.items()))
    assert hash_of(_document(payload)) == hash_of(_document(backwards))
    assert differences(_document(payload), _document(backwards))["nodesChanged"] == []


@given(before=payloads, after=payloads)
def test_documents_differ_exactly_when_their_hashes_do(before: dict[str, Any], after: dict[str, Any]) -> None:
    changed = differences(_document(before), _document(after))["nodesChanged"] != []
    if not changed:
        assert hash_of(_document(before)) == hash_of(_document(after)) or Decimal in _types(before)


def _types(value: Any) -> set[type]:
    if isinstance(value, dict):
        return set().union(*(_types(item) for item in value.values()))
    if isinstance(value, list):
        return set().union(*(_types(item) for item in value))
    return {type(value)}


def test_true_is_not_one() -> None:
    assert differences(_document({"a": 1}), _document({"a": True}))["nodesChanged"] != []
