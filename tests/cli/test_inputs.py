from __future__ import annotations

import contextlib
import json
from decimal import Decimal
from pathlib import Path

import pytest

from cli.conftest import Answer, Asked, Peer, envelope
from dustrun.cli.commands.runs import call_for
from dustrun.cli.commands.serve import read_settings
from dustrun.cli.http.documents import Document, read_document, workflow_id
from dustrun.cli.http.failures import CliError
from dustrun.cli.http.options import read_json_option, read_pairs

NODES = {"nodes": {"root": {"type": "manual"}}}


def test_json_on_the_command_line_or_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "p.json"
    file.write_text('{"usd": 0.1}')
    assert read_json_option("payload", '{"a": [1]}') == {"a": [1]}
    assert read_json_option("payload", f"@{file}") == {"usd": Decimal("0.1")}
    with pytest.raises(CliError, match="--payload is not JSON"):
        read_json_option("payload", "{a}")
    with pytest.raises(CliError, match="No such file"):
        read_json_option("payload", "@/nowhere.json")


def test_pairs_are_json_where_they_can_be() -> None:
    assert read_pairs("prop", ["n=1.50", "t=hello", "o={}", "e=", 'q="7"']) == {
        "n": Decimal("1.50"),
        "t": "hello",
        "o": {},
        "e": "",
        "q": "7",
    }
    with pytest.raises(CliError, match="key=value"):
        read_pairs("prop", ["oops"])


def test_a_file_may_be_bare_or_named(tmp_path: Path) -> None:
    bare, named, odd = tmp_path / "bare.json", tmp_path / "named.json", tmp_path / "odd.json"
    bare.write_text(json.dumps(NODES))
    named.write_text(json.dumps({"name": "N", "description": "D", "definition": NODES, "payload": {"a": 1}}))
    odd.write_text("[]")
    assert read_document(bare) == Document("bare", "", NODES, None)
    assert read_document(named) == Document("N", "D", NODES, {"a": 1})
    bare.write_text(json.dumps({"$schema": "definition.schema.json", **NODES}))
    assert read_document(bare) == Document("bare", "", NODES, None)
    with pytest.raises(CliError, match="is not a workflow"):
        read_document(odd)


def test_a_file_runs_inline_with_its_example_payload(tmp_path: Path, peer: Peer) -> None:
    file = tmp_path / "w.json"
    file.write_text(json.dumps({"definition": NODES, "payload": {"a": 1}}))
    call = call_for(peer.client(), str(file), {"runId": "run_1"})
    assert (call.path, call.body) == ("/v1/runs", {"definition": NODES, "runId": "run_1", "payload": {"a": 1}})
    spelled = tmp_path / "w.yaml"
    spelled.write_text("definition:\n  nodes: {}\npayload: {b: 3}\n")
    assert call_for(peer.client(), str(spelled), {}).body == {"definition": {"nodes": {}}, "payload": {"b": 3}}
    given = call_for(peer.client(), str(file), {"runId": "run_1", "payload": {"b": 2}})
    assert given.body["payload"] == {"b": 2}
    with pytest.raises(CliError, match="--version"):
        call_for(peer.client(), str(file), {"version": 1})


def _workflows(*names: str, more: bool = False) -> Answer:
    return envelope({"items": [{"id": f"wf_{name}", "name": name} for name in names], "hasMore": more})


def test_a_workflow_is_found_by_id_or_name_never_by_a_part_of_one(peer: Peer) -> None:
    """Else a command for a workflow that was renamed or archived would run another one."""
    known = "wf_" + "0" * 26
    assert workflow_id(peer.client(), known) == known
    assert peer.asked == []
    peer.answer = lambda _: _workflows("Price", "Price check")
    assert workflow_id(peer.client(), "price") == "wf_Price"
    peer.answer = lambda _: _workflows("Price check", "Tell the price")
    with pytest.raises(CliError, match='There is no workflow "price"') as caught:
        workflow_id(peer.client(), "price")
    assert caught.value.hint == 'Did you mean "Price check" or "Tell the price"?'


def test_a_name_is_looked_for_on_all_pages(peer: Peer) -> None:
    many = [f"Price {number}" for number in range(100)]
    peer.answer = lambda asked: _workflows("price") if "offset=100" in asked.path else _workflows(*many, more=True)
    assert workflow_id(peer.client(), "price") == "wf_price"


def test_an_ambiguous_or_unknown_name_is_told(peer: Peer) -> None:
    peer.answer = lambda _: _workflows("Price", "price")
    with pytest.raises(CliError, match="names 2 workflows"):
        workflow_id(peer.client(), "price")

    def answer(asked: Asked) -> Answer:
        return _workflows() if "q=" in asked.path else _workflows("Price check", "Other")

    peer.answer = answer
    with pytest.raises(CliError) as caught:
        workflow_id(peer.client(), "Pryce check")
    assert caught.value.hint == 'Did you mean "Price check"?'


def test_a_setting_that_is_not_there_is_told_the_one_that_was_meant(tmp_path: Path) -> None:
    (tmp_path / "dustrun.toml").write_text("retention_day = 30\n")
    with contextlib.chdir(tmp_path), pytest.raises(CliError) as caught:
        read_settings({})
    (detail,) = caught.value.details
    assert detail["field"] == "DUSTRUN_RETENTION_DAY"
    assert detail["message"].startswith('There is no such setting. Did you mean "retention_days"')
