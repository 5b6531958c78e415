"""A definition survives export and import, whatever its payloads hold."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dustrun.core.values import exact_json
from dustrun.core.workflow.definition import Definition
from dustrun.services.access.principal import Principal
from dustrun.services.workflows import import_export
from dustrun.services.workflows.versions import hash_of, make_version
from dustrun.services.workflows.workflows import Workflow
from services.workflows.test_workflows import ROW

BY = Principal("key_1", "org_1", frozenset(["workflow:create"]))
_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=6) | st.sampled_from(
    ["yes", "1e3", "2026-01-31", "a: b", "{{$now}}", "wf_01k9w3x7q2c4v6b8n0m1a2s3d4", "~", "\n", "0x1F"]
)
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals(-5, 5, places=3) | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=8,
)


def _workflow(definition: Definition) -> Workflow:
    return Workflow(ROW, make_version(ROW.id, 1, definition, BY), {})


@given(payload=st.dictionaries(_texts, _values, max_size=3), format_=st.sampled_from(["json", "yaml"]))
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_what_is_exported_is_imported_and_exported_the_same(payload: dict[str, Any], format_: str) -> None:
    document = {"nodes": {"root": {"type": "manual", "children": ["a"]}, "a": {"type": "x", "payload": payload}}}
    definition = Definition.model_validate(exact_json.loads(exact_json.dumps(document)))
    exported = import_export.export(_workflow(definition), format_, {})
    read = import_export.read(exported.content, {}, "wf_new")
    assert import_export.export(_workflow(read.definition), format_, {}) == exported
    bindings = {one.name: "wf_01k9w3x7q2c4v6b8n0m1a2s3d4" for one in read.to_bind if one.kind == "workflow"}
    if len(bindings) == len(read.to_bind):
        bound = import_export.read(exported.content, bindings, "wf_new").definition
        assert hash_of(bound.model_dump(by_alias=True, exclude_unset=True)) == hash_of(
            definition.model_dump(by_alias=True, exclude_unset=True)
        )


def test_an_export_holds_no_secret_wherever_it_stands() -> None:
    payload = {
        "url": "https://me:s3cret-1@api.example.com/x",
        "feed": "https://api.example.com/?api_key=s3cret-2",
        "headers": {"X-Auth-Secret": "s3cret-3", "accept": "*/*"},
        "json": {
            "text": "{{ 'Bearer s3cret-4-long' }}",
            "password": 733100733,
            "fields": [{"name": "apiKey", "value": "s3cret-5"}, {"key": "Authorization", "value": "s3cret-6"}],
            "inside": '{"password": "s3cret-7"}',
            "form": "a=1&client_secret=s3cret-8",
            "url": "https://me:s3cret-9@api.example.com/{{root.x}}",
            "token": "Bearer {{$env.TOKEN}}",
            "amount": 7,
        },
        "inputSchema": {"properties": {"password": {"type": "string", "minLength": 8}}},
    }
    definition = Definition.model_validate({"nodes": {"root": {"type": "x", "payload": payload}}})
    exported = import_export.export(_workflow(definition), "json", {})
    assert not [part for part in ("s3cret", "733100733") if part in exported.content]
    kept = exact_json.loads(exported.content)["definition"]["nodes"]["root"]["payload"]
    assert kept["inputSchema"] == payload["inputSchema"]
    assert kept["headers"]["accept"] == "*/*"
    assert kept["json"]["fields"][0]["name"] == "apiKey"
    assert (kept["json"]["token"], kept["json"]["amount"]) == ("Bearer {{$env.TOKEN}}", 7)
