"""A signature in a run: its expressions see it, over calls, restarts and retries; nobody who only reads does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from eth_account import Account
from eth_account.messages import encode_defunct

from dustrun.services.runs.start import Unsealing
from dustrun.storage.db.tables import metadata
from dustrun.storage.secrets.vault import Vault
from engine.conftest import Bench, Definition
from outbox import ALICE, ALICE_KEY, Outbox, address, open_outbox
from secrecy.spelled import spellings
from testkit.chain.anvil import CHAIN_ID, Anvil
from testkit.chain.contracts import World

TEXT = "let me in, 2026-11-26"
SIGNED = Account.sign_message(encode_defunct(text=TEXT), ALICE_KEY)
SIGNATURE = SIGNED.signature.to_0x_hex()
SECRET = {"r": f"{SIGNED.r:064x}", "s": f"{SIGNED.s:064x}"}
SIGN: Definition = {"type": "sign-message", "payload": {"message": TEXT}}
SAME = "{{$nodes.sign.result.signature}}"


def _say(text: str, *children: str, **more: Any) -> Definition:
    return {"type": "log", "payload": {"message": text}, "children": [*children], **more}


@pytest.fixture
def node(world: World) -> Any:
    with world.node("--block-time", "1") as node:
        yield node


@asynccontextmanager
async def _open(tmp_path: Path, node: Anvil, store_url: str, **more: Any) -> AsyncIterator[tuple[Outbox, Bench]]:
    async with open_outbox(tmp_path, node, store_url, outbound_allow="127.0.0.1", **more) as outbox:
        yield outbox, Bench(outbox.composition)


async def _everything(bench: Bench, run_ids: list[str], *, ended: bool) -> dict[str, bytes]:
    """All that a reader is answered of some runs, and every row of the store."""
    found: dict[str, bytes] = {}
    paths = ["/v1/runs", "/v1/signatures", "/v1/audit", "/v1/approvals", "/v1/transactions", "/metrics"]
    for run_id in run_ids:
        parts = ("", "/effects", f"/compare/{run_ids[0]}", *(["/stream"] if ended else []))
        paths += [f"/v1/runs/{run_id}{part}" for part in parts]
    for path in paths:
        found[path] = (await bench.api.http.get(path)).content
    for table in metadata.sorted_tables:
        rows = await bench.composition.rows(sa.select(table))
        found[f"table {table.name}"] = repr([tuple(row) for row in rows]).encode()
    return found


def _leaks(places: dict[str, bytes]) -> list[str]:
    forms = {name: [form for form in set(spellings(text)) if len(form) > 8] for name, text in SECRET.items()}
    forms["decimal"] = [str(SIGNED.r).encode(), str(SIGNED.s).encode()]
    return [
        f"{name} in {place}: …{raw[max(0, raw.find(form) - 150) : raw.find(form)]!r}"
        for place, raw in places.items()
        for name, all_forms in forms.items()
        for form in all_forms
        if form in raw
    ]


async def _callee(bench: Bench) -> str:
    nodes = {
        "root": {"type": "manual", "children": ["said"]},
        "said": _say("{{$trigger.body.given}}"),
    }
    body = {"name": "callee", "description": "", "definition": {"nodes": nodes}}
    made = (await bench.api.post("/v1/workflows", body)).data
    return str(made["id"])


async def test_a_signature_is_seen_by_the_run_and_by_nobody_else(tmp_path: Path, node: Anvil, store_url: str) -> None:
    equal = "{{$nodes.sign.result.signature == $nodes.call.result.result.message ? 'same' : 'other'}}"
    async with _open(tmp_path, node, store_url) as (outbox, bench):
        callee = await _callee(bench)
        nodes = {
            "sign": {**SIGN, "children": ["said", "sent", "call", "ask"]},
            "said": _say(f"{SAME} {{{{$nodes.sign.result.r}}}} {{{{$nodes.sign.result.s}}}}"),
            "sent": {
                "type": "http-request",
                "payload": {"url": "http://127.0.0.1:1/", "method": "POST", "json": {"order": SAME}},
                "onError": "continue",
            },
            "call": {
                "type": "call-workflow",
                "payload": {"workflowId": callee, "payload": {"given": SAME}},
                "children": ["equal"],
            },
            "equal": _say(equal),
            "ask": {
                "type": "approve",
                "payload": {"message": f"Use {SAME}?", "timeoutMs": 600_000, "allowStarter": True},
                "children": ["after"],
            },
            "after": _say(f"{SAME}", "dear", branch="approved"),
            "dear": {
                "type": "send-native",
                "payload": {"chainId": CHAIN_ID, "recipient": address(1), "amount": str(10**30)},
                "children": ["last"],
            },
            "last": _say(SAME),
        }
        run_id = await bench.start(nodes)
        settled = ("success", "failure")
        waiting = await bench.until(
            run_id,
            lambda run: (
                run["executionState"]["ask"]["status"] == "waiting"
                and all(run["executionState"][name]["status"] in settled for name in ("said", "sent", "equal"))
            ),
        )
        assert waiting["executionState"]["equal"]["result"]["message"] == "same"
        assert waiting["executionState"]["sign"]["result"]["signature"] == "0x•••"
        assert waiting["executionState"]["sign"]["result"]["signer"] == ALICE
        assert _leaks(await _everything(bench, [run_id], ended=False)) == []
    async with _open(tmp_path, node, store_url, reuse=True) as (outbox, bench):
        asked = (await bench.api.get("/v1/approvals?status=pending")).data["items"]
        (question,) = [item for item in asked if "Use" in item["message"]]
        assert (await bench.api.post(f"/v1/approvals/{question['id']}/approve")).status == 200
        failed = await bench.ended(run_id)
        assert failed["executionState"]["after"]["status"] == "success"
        assert failed["executionState"]["after"]["result"]["message"] == "0x•••"
        outbox.node.set_balance(ALICE, 2 * 10**30)
        answer = await bench.api.post(f"/v1/runs/{run_id}/retry")
        assert answer.data["executionState"]["sign"]["result"]["signature"] == "0x•••"
        assert SIGNATURE[2:] not in answer.response.text
        retry = answer.data["runId"]
        retried = await bench.until(retry, lambda run: run["finishedAt"] is not None, timeout_s=30)
        assert retried["status"] == "partial", "the request was refused again"
        assert retried["executionState"]["last"]["result"]["message"] == "0x•••"
        ids = [item["id"] for item in (await bench.api.get("/v1/runs")).data["items"] if item["finishedAt"]]
        places = await _everything(bench, ids, ended=True)
        assert _leaks(places) == []
        (known,) = (await bench.api.get("/v1/signatures")).data["items"]
        shown = (await bench.api.get(f"/v1/signatures/{known['id']}")).data
        assert shown["signature"] == SIGNATURE
        reader = await outbox.composition.client_with("run:read", "transaction:read")
        assert (await reader.get(f"/v1/signatures/{known['id']}")).status == 403


async def test_the_summary_of_a_run_hides_a_signature_in_the_message_that_ended_it(
    tmp_path: Path, node: Anvil, store_url: str
) -> None:
    async with _open(tmp_path, node, store_url) as (_, bench):
        ended = {"type": "stop", "payload": {"status": "failure", "message": f"Signed as {SAME}"}}
        run = await bench.run({"sign": {**SIGN, "children": ["end"]}, "end": ended})
        assert run["status"] == "failure"
        assert run["summary"] == run["executionState"]["end"]["result"]["message"] == "Signed as 0x•••"
        assert _leaks(await _everything(bench, [run["id"]], ended=True)) == []


async def test_a_mark_opens_nothing_in_another_organisation(tmp_path: Path, node: Anvil, store_url: str) -> None:
    async with _open(tmp_path, node, store_url) as (outbox, bench):
        run = await bench.run({"sign": SIGN})
        assert run["status"] == "success"
        ((mark,),) = await outbox.composition.rows(sa.select(metadata.tables["signatures"].c.mark))
        database, settings = outbox.composition.parts.database, outbox.composition.parts.settings
        vault = Vault(settings.master_key_file)
        vault.unlock(database)
        stored = f'"dlv_{mark}_0_"'
        own = await database.read(lambda tx: Unsealing(tx, vault, outbox.org_id).text(stored))
        other = await database.read(lambda tx: Unsealing(tx, vault, "org_other").text(stored))
        assert (own, other) == (f'"{SIGNATURE[2:]}"', stored)
        said = await bench.run({"said": _say(f"dlv_{mark}_0_")})
        assert said["executionState"]["said"]["result"]["message"] == "•••"
