"""Every operation of the API, called with its documented body; the examples of answers are collected here too."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from aiohttp import web

import testkit
from dustrun import clock
from dustrun.storage.db.trigger_tables import subscriptions, trigger_gaps
from outbox import Outbox, open_outbox
from testkit import declared
from testkit.authenticator import Authenticator
from testkit.chain.anvil import ACCOUNTS, CHAIN_ID
from testkit.chain.contracts import World
from testkit.declared import CONSENTED
from testkit.identity_provider import IdentityProvider, providing
from testkit.plain_mcp import connector, listed, plain_mcp
from testkit.receiver import receiving

BODIES: dict[str, Any] = {name: one.example for name, one in declared.operations().items() if one.example is not None}
_SPAN = "?since=2020-01-01T00:00:00Z&until=2020-01-02T00:00:00Z"
TREASURY = ACCOUNTS[3]
PAY = {
    "type": "send-native",
    "payload": {"chainId": CHAIN_ID, "recipient": TREASURY, "amount": "20000000000000000"},
}
ASK = {"type": "approve", "payload": {"message": "Pay 50 USD to the supplier?", "allowStarter": True}}
WAIT = {"type": "wait", "payload": {"timeoutMs": 86_400_000}}
COUNT = {"type": "set-variable", "payload": {"name": "paid", "value": "{{$vars.paid + 1}}"}}
POLICY = {
    "chains": [CHAIN_ID],
    "assets": [f"eip155:{CHAIN_ID}/native"],
    "recipients": [TREASURY],
    "limits": [{"maxUsd": "100"}, {"maxUsd": "500", "windowMs": 86_400_000}],
}
TICKS = {
    "nodes": {
        "tick": {"type": "tick", "payload": {"everyMs": 86_400_000}, "children": ["pay"]},
        "pay": PAY,
    },
    "triggerNodeIds": ["tick"],
}
OWN_TRIGGERS = Path(testkit.__file__).parent / "own_triggers"
Json = dict[str, Any]


class Tour:
    """Calls operations by their names, and remembers which."""

    def __init__(self, outbox: Outbox, provider: IdentityProvider) -> None:
        self.provider = provider
        self.outbox = outbox
        self.api = outbox.composition.owner
        document = outbox.composition.conformance.document
        self.operations = {
            operation["operationId"]: (method, path)
            for path, operations in document["paths"].items()
            for method, operation in operations.items()
            if "application/json" in operation["responses"]["200"]["content"]
        }
        self.called: set[str] = set()

    async def call(
        self, operation: str, /, body: Json | None = None, query: str = "", host: str | None = None, **path: Any
    ) -> Any:
        """The data of a successful answer to the documented body, changed by `body`."""
        method, pattern = self.operations[operation]
        url = re.sub(r"\{(\w+)\}", lambda match: str(path[match[1]]), pattern)
        sent = {**BODIES[operation], **(body or {})} if operation in BODIES else body
        headers = None if host is None else {"Host": host}
        reply = await self.api.send(method.upper(), url + query, sent, headers=headers)
        assert reply.status == 200, (operation, reply.body)
        self.called.add(operation)
        return reply.data

    async def workflow(self, name: str, nodes: Json, **fields: Any) -> str:
        """The id of a new workflow whose root leads to all nodes."""
        definition = {"nodes": {"root": {"type": "manual", "children": [*nodes]}, **nodes}, **fields}
        body = {"name": name, "description": "", "definition": definition}
        return str((await self.api.post("/v1/workflows", body)).data["id"])

    async def start(self, workflow: str, **body: Any) -> str:
        """The id of a new run."""
        return str((await self.call("run_workflow", body, id=workflow))["runId"])

    async def until(self, run: str, *statuses: str) -> Json:
        """The run, once it has one of the statuses; blocks are made meanwhile."""
        async with asyncio.timeout(60):
            while (found := (await self.api.get(f"/v1/runs/{run}")).data)["status"] not in statuses:
                await asyncio.sleep(0.02)
        return dict(found)

    async def mined(self, run: str) -> None:
        """Makes blocks until the run has succeeded."""
        async with asyncio.timeout(60):
            while (await self.api.get(f"/v1/runs/{run}")).data["status"] != "success":
                self.outbox.node.mine()
                await asyncio.sleep(0.05)

    async def sent(self, run: str) -> str:
        """The id of the run's transaction, once it was broadcast."""
        async with asyncio.timeout(60):
            while True:
                items = (await self.api.get("/v1/transactions?status=sent")).data["items"]
                if found := [item["id"] for item in items if item["runId"] == run]:
                    return str(found[0])
                await asyncio.sleep(0.02)


@pytest.fixture
async def tour(tmp_path: Path, world: World) -> AsyncIterator[Tour]:
    with world.node("--no-mining") as node:
        left_out = {"chain_id", "confirmations", "block_time_ms", "endpoints"}
        network = world.network(node.url).model_dump(mode="json", by_alias=True, exclude=left_out)
        async with (
            providing() as provider,
            open_outbox(
                tmp_path,
                node,
                network={**network, "confirmations": 1},
                outbound_allow="127.0.0.1",
                actions_dir=OWN_TRIGGERS,
                **provider.settings,
            ) as outbox,
        ):
            yield Tour(outbox, provider)


async def test_every_operation_takes_its_documented_body_and_answers(tour: Tour) -> None:
    for part in (
        _catalogue, _keys, _sessions, _passkeys, _backtests, _workflows, _versions, _files, _connectors, _imports,
        _conversations, _tables, _variables, _wallets, _money, _transactions, _runs, _answers, _triggers, _hooks,
        _reading, _rest,
    ):  # fmt: skip
        await part(tour)
    assert tour.called == set(tour.operations)


async def _catalogue(tour: Tour) -> None:
    for name in ("list_actions", "list_triggers", "list_connector_types", "list_chains", "get_health", "get_readiness"):
        await tour.call(name)
    await tour.call("get_action", type="send-native")
    await tour.call("get_trigger", type="manual")
    tested = await tour.call("test_trigger", type="cronjob")
    assert (tested["valid"], len(tested["fires"])) == (True, 10)
    await tour.call("get_connector_type", type="http-bearer")
    await tour.call("get_chain", chainId=CHAIN_ID)
    await tour.call("get_chain_status", chainId=CHAIN_ID)


async def _keys(tour: Tour) -> None:
    workflow = await tour.workflow("Shop", {})
    key = await tour.call("create_key", {"workflowIds": [workflow]})
    await tour.call("list_keys")
    await tour.call("get_key", id=key["id"])
    await tour.call("revoke_key", id=key["id"])
    account = (await tour.call("create_service_account"))["id"]
    body = {"name": "shop", "serviceAccountId": account}
    key = (await tour.api.send("POST", "/v1/api-keys", body)).data
    await tour.call("rotate_key", id=key["id"])
    await tour.call("create_role")
    await tour.call("list_roles")
    await tour.call("delete_role", id="bookkeeper")
    person = (await tour.call("invite_person"))["id"]
    await tour.call("list_people")
    await tour.call("get_person", id=person)
    await tour.call("make_person_link", id=person)
    await tour.call("list_person_sessions", id=person)
    await tour.call("end_person_session", id=person, session=await _signed_in(tour, person))
    await tour.call("end_person_sessions", id=person)
    await _enter(tour, "/v1/session/links")
    (own,) = (await tour.call("list_own_sessions"))["items"]
    await tour.call("end_own_session", id=own["id"])
    await tour.call("update_person", id=person)
    made = await tour.call("create_organization")
    assert made["name"] == "Treasury"
    own = (await tour.call("list_organizations"))["items"][0]["id"]
    await tour.call("get_organization", id=own)
    await tour.call("list_quotas", id=own)
    await tour.call("update_organization", id=own)


async def _enter(tour: Tour, path: str) -> None:
    """A browser signs in by a new link."""
    token = str((await tour.api.post(path)).data["url"]).partition("#signin=")[2]
    await tour.call("redeem_sign_in_link", {"token": token}, host="127.0.0.1:8080")


async def _signed_in(tour: Tour, person: str) -> str:
    """A session of a person."""
    await _enter(tour, f"/v1/people/{person}/links")
    (one,) = (await tour.api.get(f"/v1/people/{person}/sessions")).data["items"]
    return str(one["id"])


async def _backtests(tour: Tour) -> None:
    now = clock.now_ms()
    workflow = await tour.api.create_workflow(TICKS)
    body = {"from": clock.to_rfc3339(now - 86_400_000), "to": clock.to_rfc3339(now), "triggerNodeId": "tick"}
    found = await tour.call("start_backtest", body, id=workflow["id"])
    await tour.call("list_backtests", id=workflow["id"])
    await tour.call("get_backtest", id=found["id"])


async def _sessions(tour: Tour) -> None:
    await tour.call("get_me")
    owner = tour.outbox.composition.owner_key
    await tour.call("start_session", {"key": owner}, host="127.0.0.1:8080")
    link = await tour.call("make_sign_in_link")
    token = link["url"].partition("#signin=")[2]
    await tour.call("redeem_sign_in_link", {"token": token}, host="127.0.0.1:8080")
    assert (await tour.call("get_sign_in_provider"))["name"]
    begun = await tour.call("begin_sign_in", host="127.0.0.1:8080")
    await tour.call("finish_sign_in", tour.provider.sign_in(begun["url"], "ada"), host="127.0.0.1:8080")
    await tour.call("end_session")


async def _passkeys(tour: Tour) -> None:
    """Of a person, with a key of theirs."""
    body = {"name": "Grace", "email": "grace@example.com", "permissions": ["run:read"]}
    person = (await tour.api.post("/v1/people", body)).data["id"]
    key = (await tour.api.post("/v1/api-keys", {"name": "grace", "permissions": ["run:read"]})).data
    assert (await tour.api.send("PATCH", f"/v1/people/{person}", {"keyIds": [key["id"]]})).status == 200
    owner, tour.api = tour.api, tour.outbox.composition.client(key["key"])
    device = Authenticator(tour.outbox.composition.parts.settings.base_url())
    made = device.create((await tour.call("begin_passkey"))["publicKey"])
    passkey = (await tour.call("add_passkey", {"credential": made}))["id"]
    await tour.call("list_passkeys")
    await tour.call("rename_passkey", id=passkey)
    asked = await tour.call("begin_passkey_sign_in", host="127.0.0.1:8080")
    used = device.get(asked["publicKey"])
    await tour.call("finish_passkey_sign_in", {"credential": used}, host="127.0.0.1:8080")
    await tour.call("remove_passkey", id=passkey)
    tour.api = owner
    await tour.call("remove_person_passkeys", id=person)


async def _workflows(tour: Tour) -> None:
    made = await tour.call("create_workflow")
    at: Json = {"id": made["id"]}
    await tour.call("list_workflow_templates", query="?category=money")
    await tour.call("get_workflow_template", id="price-alert")
    await tour.call("use_workflow_template", id="price-alert")
    await _own_templates(tour)
    await tour.call("validate_workflow")
    await tour.call("update_workflow", {"expectedCurrentVersion": made["version"], "maxRuns": 100}, **at)
    await tour.call("get_draft", **at)
    await tour.call("set_ui_metadata", **at)
    await tour.call("publish_workflow", {"expectedVersion": made["version"]}, **at)
    await tour.call("get_live", **at)
    await tour.call("get_schedule", **at)
    await tour.call("pause_workflow", **at)
    await tour.call("resume_workflow", **at)
    await tour.call("refill_workflow", **at)
    await tour.call("get_workflow", **at)
    await tour.call("archive_workflow", **at)
    await tour.call("unarchive_workflow", **at)
    await tour.call("list_workflows")
    await tour.call("count_workflows")


async def _versions(tour: Tour) -> None:
    workflow = await tour.workflow("Pay the supplier", {"pay": PAY})
    at: Json = {"id": workflow}
    await tour.api.post(f"/v1/workflows/{workflow}/publish")
    dearer = {**PAY, "payload": {**PAY["payload"], "amount": "30000000000000000"}}  # type: ignore[dict-item]
    nodes = {"root": {"type": "manual", "children": ["pay"]}, "pay": dearer}
    writer = await tour.outbox.composition.client_with("workflow:read", "workflow:update")
    assert (await writer.put(f"/v1/workflows/{workflow}", {"definition": {"nodes": nodes}})).status == 200
    await tour.call("list_versions", **at)
    await tour.call("count_versions", **at)
    await tour.call("list_incoming_links", **at)
    await tour.call("get_version", number=2, **at)
    await tour.call("diff_versions", number=2, query="?against=1", **at)
    ladder = await tour.call("get_ladder", **at)
    await tour.call("list_spend_sources", **at)
    await tour.call("accept_version", {"expectedDigest": ladder["acceptance"]["digest"]}, number=2, **at)
    await tour.call("withdraw_acceptance", number=2, **at)
    await tour.call("rollback_workflow", {"targetVersion": 1}, **at)
    await tour.call("discard_draft", **at)


async def _files(tour: Tour) -> None:
    imported = (await tour.call("import_workflow"))["workflow"]["id"]
    await tour.call("export_workflow", id=imported)
    assert (await tour.api.delete(f"/v1/workflows/{imported}")).status == 200  # another has its name
    await tour.call("apply_files")


async def _connectors(tour: Tour) -> None:
    made = await tour.call("create_connector")
    await tour.call("list_connectors")
    await tour.call("get_connector", id=made["id"])
    await tour.call("update_connector", {"expectedVersion": made["version"]}, id=made["id"])
    await tour.call("try_connector", {"url": "https://api.example.com:444/me"}, id=made["id"])
    await tour.call("delete_connector", id=made["id"])
    consented = (await tour.api.post("/v1/connectors", CONSENTED)).data["id"]
    await tour.call("begin_consent", id=consented)
    async with plain_mcp(listed("read_text_file", "list_directory")) as url:
        files = (await tour.api.post("/v1/connectors", connector(url, "Files"))).data["id"]
        await tour.api.post(f"/v1/connectors/{files}/tools", {})
        await tour.call("read_connector_tools", id=files)
        await tour.call("list_connector_tools", id=files)


async def _imports(tour: Tour) -> None:
    made = await tour.call("import_document")
    await tour.call("list_imports")
    await tour.call("get_import", id=made["id"])
    await tour.call("renew_import", id=made["id"])
    await tour.call("list_services", query="?q=issues")
    await tour.call("get_service", name="github")
    await tour.call("search_operations", query="?q=orders")
    await tour.call("get_operation_type", type="shop.search-orders")
    await tour.call("delete_import", id=made["id"])


async def _conversations(tour: Tour) -> None:
    made = await tour.call("create_conversation")
    message = await tour.call("create_message", id=made["id"])
    data = {"model": "small", "prices": {"*": {"inputUsd": "1", "outputUsd": "1"}}, "baseUrl": "http://127.0.0.1:1/v1"}
    model = {"type": "llm-openai", "name": "m", "data": data, "allowedHosts": ["http://127.0.0.1:1"]}
    await tour.api.post("/v1/connectors", model)
    turn = await tour.call("create_turn", id=made["id"])
    await tour.call("stop_turn", id=made["id"], messageId=turn["messageId"])
    await tour.call("list_conversations")
    await tour.call("get_conversation", id=made["id"])
    await tour.call("list_messages", id=made["id"])
    await tour.call("get_message", id=made["id"], messageId=message["id"])


async def _tables(tour: Tour) -> None:
    columns = [*BODIES["create_table"]["columns"], {"name": "status", "type": "text", "default": "open"}]
    table = (await tour.call("create_table", {"columns": columns}))["id"]
    await tour.call("add_rows", id=table)
    await tour.call("list_rows", id=table)
    await tour.call("get_row", id=table, key="ord_1")
    await tour.call("change_rows", id=table)
    await tour.call("export_table", id=table, query="?format=csv")
    await tour.call("get_table", id=table)
    await tour.call("list_tables")
    await tour.call("delete_rows", id=table)
    await tour.call("add_rows", id=table)
    await tour.call("delete_row", id=table, key="ord_1")
    await tour.call("delete_table", id=table)


async def _variables(tour: Tour) -> None:
    workflow = await tour.workflow("Count", {"count": COUNT})
    at: Json = {"id": workflow, "name": "paid"}
    await tour.call("declare_variable", **at)
    await tour.call("set_variable", **at)
    run = await tour.start(workflow)
    await tour.until(run, "success")
    await tour.call("list_variables", id=workflow)
    await tour.call("list_variable_history", **at)
    await tour.call("list_variable_writes", id=run)
    await tour.call("reset_variable", **at)
    spare: Json = {"id": workflow, "name": "spare"}
    await tour.call("declare_variable", **spare)
    await tour.call("delete_variable", **spare)


async def _wallets(tour: Tour) -> None:
    made = await tour.call("create_wallet")
    await tour.call("update_wallet", id=made["id"])
    hot = await tour.call("import_wallet")
    await tour.call("export_wallet", id=hot["id"])
    await tour.call("archive_wallet", id=hot["id"])
    wallet = tour.outbox.wallet_id
    await tour.call("set_default_wallet", id=wallet)
    version = (await tour.call("get_wallet_policy", id=wallet))["newestVersion"]
    await tour.call("set_wallet_policy", {"policy": POLICY, "expectedVersion": version}, id=wallet)
    await tour.call("list_wallet_policies", id=wallet)
    assert (await tour.call("convert_policy_sentences"))["problems"] == []
    assert (await tour.call("replay_wallet_policy", id=wallet))["isWhole"] is True
    await tour.call("try_payment", id=wallet)
    await tour.call("get_wallet", id=wallet)
    await tour.call("list_wallets")
    await tour.call("get_wallet_balances", id=wallet, query=f"?chainIds={CHAIN_ID}")
    await tour.call("get_wallet_spending", id=wallet)
    place: dict[str, Any] = {"chainId": CHAIN_ID, "address": "0x7a250d5630B4cF539739dF2C5dAcb4c659F2488D"}
    await tour.call("put_contract", **place)
    await tour.call("list_contracts")
    await tour.call("list_bundled_contracts", chainId=CHAIN_ID)
    await tour.call("delete_contract", **place)
    await tour.call("get_wallet_allowances", id=tour.outbox.wallet_id)
    await tour.call("revoke_wallet_allowances", {"chainId": CHAIN_ID}, id=tour.outbox.wallet_id)


async def _money(tour: Tour) -> None:
    workflow = await tour.workflow("Pay the invoice", {"pay": PAY})
    definition = {"nodes": {"root": {"type": "manual", "children": ["pay"]}, "pay": PAY}}
    await tour.call("analyze_workflow_funds", id=workflow)
    await tour.call("analyze_definition_funds", {"definition": definition})
    await tour.call("plan_dust", id=workflow)
    simulated = await tour.start(workflow, simulate=True)
    await tour.until(simulated, "success")
    run = await tour.start(workflow)
    await tour.mined(run)
    effects = await tour.call("get_run_effects", id=run)
    assert [change["amount"] for change in effects["balanceChanges"]] == ["-20000000000000000", "20000000000000000"]
    await tour.call("compare_runs", id=simulated, otherId=run)
    await tour.call("get_ladder", id=workflow)
    await tour.call("get_run", id=run)
    await tour.call("list_workflow_runs", id=workflow)
    await tour.call("count_workflow_runs", id=workflow)
    sign = {"type": "sign-message", "payload": {"message": "I agree to the terms."}}
    loose = {**POLICY, "signatures": {"messages": True, "typedData": "known"}}
    assert (await tour.api.put(f"/v1/wallets/{tour.outbox.wallet_id}/policy", {"policy": loose})).status == 200
    await tour.until(await tour.start(await tour.workflow("Sign", {"sign": sign})), "success")
    signature = (await tour.call("list_signatures"))["items"][0]
    await tour.call("get_signature", id=signature["id"])


async def _own_templates(tour: Tour) -> None:
    source = (await tour.call("create_workflow", {"name": "Source"}))["id"]
    made = {"id": (await tour.call("create_template", {"sourceWorkflowId": source, "name": "Our way"}))["id"]}
    await tour.call("recommend_templates", query="?limit=3")
    await tour.call("find_template_of_workflow", id=source)
    await tour.call("update_template", **made)
    await tour.call("list_template_versions", **made)
    await tour.call("count_template_versions", **made)
    await tour.call("get_template_version", **made, number=1)
    await tour.call("rollback_template", **made)
    await tour.call("get_template_stats", **made)
    await tour.call("delete_template", **made)


async def _transactions(tour: Tour) -> None:
    run = await tour.start(await tour.workflow("Pay and change your mind", {"pay": PAY}))
    transaction = await tour.sent(run)
    await tour.call("speed_up_transaction", id=transaction)
    found = await tour.call("get_transaction", id=transaction)
    await tour.call("list_transactions")
    await tour.call("list_ledger")
    await tour.call("get_overview", query="?since=2020-01-01T00:00:00Z")
    await tour.call("search_everything", query="?q=hello")
    await tour.call("search_similar", type="action", id="http-request")
    await tour.call("get_runs_timeseries", query=_SPAN)
    await tour.call("list_top_errors", query=_SPAN)
    await tour.call("get_payee", address=f"0x{1:040x}")
    await tour.call("attribute_transactions", {"txHashes": [found["hash"]]})
    await tour.call("cancel_transaction", id=transaction)
    async with asyncio.timeout(60):
        while (await tour.api.get(f"/v1/runs/{run}")).data["finishedAt"] is None:
            tour.outbox.node.mine()
            await asyncio.sleep(0.05)
    await tour.call("release_spends", {"walletId": tour.outbox.wallet_id, "chainId": CHAIN_ID})


async def _runs(tour: Tour) -> None:
    await tour.call("run_action", type="log")
    await tour.call("test_action", type="log")
    await tour.call("run_inline")
    await tour.call("run_inline_sync")
    greeting = {"type": "respond", "payload": {"status": 201, "body": {"hello": "{{$trigger.body.name}}"}}}
    run = await tour.start(
        await tour.workflow("Tell", {"tell": {"type": "log", "payload": {"message": "x"}}}), payload={"amount": 20}
    )
    await tour.until(run, "success")
    await tour.call(
        "evaluate_expression", {"template": "{{$trigger.body.amount * 2}} USDC", "runId": run, "path": "tell"}
    )
    await tour.call("run_workflow_sync", id=await tour.workflow("Greet", {"greet": greeting}))
    await _webhooks(tour)
    await _forms(tour)
    failing = {"type": "log", "payload": {"message": "{{100 / $trigger.body.count}} each"}}
    run = await tour.start(await tour.workflow("Divide", {"tell": failing}), payload={"count": 0})
    await tour.until(run, "failure")
    await tour.call("retry_run", id=run)
    waiting = await tour.start(await tour.workflow("Wait", {"wait": WAIT}))
    await tour.until(waiting, "waiting")
    await tour.call("create_stream_token", {"stream": f"/v1/runs/{waiting}/stream"})
    await tour.call("cancel_run", id=waiting)


async def _webhooks(tour: Tour) -> None:
    root = {"type": "webhook", "payload": {"respond": "result"}, "children": ["say"]}
    say = {"type": "log", "payload": {"message": "order {{string($trigger.body.orderId)}}"}}
    body = {"name": "Orders", "description": "", "definition": {"nodes": {"root": root, "say": say}}}
    workflow = str((await tour.api.post("/v1/workflows", body)).data["id"])
    assert (await tour.api.post(f"/v1/workflows/{workflow}/publish")).status == 200
    made = await tour.call("rotate_webhook", id=workflow, nodeId="root")
    await tour.call("list_webhooks", id=workflow)
    await tour.call("receive_webhook", {"orderId": 17}, secret=made["url"].rsplit("/", 1)[1])
    await tour.call("revoke_webhook", id=workflow, nodeId="root")


async def _forms(tour: Tour) -> None:
    properties = {"order": {"type": "string", "description": "Number of the order"}}
    schema = {"type": "object", "properties": properties, "required": ["order"]}
    root = {"type": "manual", "payload": {"inputSchema": schema}, "children": ["answer"]}
    answer = {"type": "respond", "payload": {"body": {"refund": "{{$trigger.body.order}}"}}}
    body = {"name": "Refund", "description": "", "definition": {"nodes": {"root": root, "answer": answer}}}
    workflow = str((await tour.api.post("/v1/workflows", body)).data["id"])
    assert (await tour.api.post(f"/v1/workflows/{workflow}/publish")).status == 200
    made = await tour.call("create_form", id=workflow)
    secret = made["url"].rsplit("/", 1)[1]
    await tour.call("list_forms", id=workflow)
    await tour.call("show_form", secret=secret)
    sent = await tour.call("submit_form", secret=secret)
    await tour.call("get_submission", secret=secret, submissionId=sent["submissionId"])
    await tour.call("revoke_form", id=workflow, formId=made["id"])


async def _answers(tour: Tour) -> None:
    """What people answer to nodes that wait."""
    resumed = await tour.start(await tour.workflow("Wait for the payment", {"wait": WAIT}))
    await tour.until(resumed, "waiting")
    await tour.call("resume_node", id=resumed, nodeId="wait")
    async with _silent() as url:
        order = {"type": "http-request", "payload": {"method": "POST", "url": url, "body": {"item": "n-17"}}}
        unknown = await tour.start(await tour.workflow("Order", {"order": order}))
        await tour.until(unknown, "waiting")
    await tour.call("resolve_node", id=unknown, nodeId="order")
    workflow = await tour.workflow("Ask", {"ask": ASK})
    for decide in ("approve_approval", "reject_approval"):
        await tour.until(await tour.start(workflow), "waiting")
        pending = (await tour.call("list_approvals", query="?status=pending"))["items"]
        asked = next(one["id"] for one in pending if one["workflowId"] == workflow)
        await tour.call("get_approval", id=asked)
        await tour.call("get_approval_spends", id=asked)
        await tour.call(decide, id=asked)


async def _triggers(tour: Tour) -> None:
    """A workflow that watches the ends of another, and is then made live."""
    first = await tour.workflow("First", {"say": {"type": "log", "payload": {"message": "done"}}})
    watch = {"type": "workflow-finished", "payload": {"workflowIds": [first], "mode": "simulate"}, "children": ["say"]}
    nodes = {"root": watch, "say": {"type": "log", "payload": {"message": "{{$trigger.body.status}}"}}}
    made = await tour.api.post("/v1/workflows", {"name": "Then", "description": "", "definition": {"nodes": nodes}})
    workflow = made.data["id"]
    await tour.call("publish_workflow", {"expectedVersion": 1}, id=workflow)
    await tour.start(first)
    async with asyncio.timeout(60):
        while not (found := (await tour.call("list_workflow_trigger_events", id=workflow))["items"]):
            await asyncio.sleep(0.02)
    await tour.until(found[0]["runId"], "success")
    await tour.call("list_trigger_events", query=f"?workflowId={workflow}")
    await tour.call("get_trigger_event", id=found[0]["id"])
    await tour.call("get_trigger_rehearsal", id=workflow)
    await tour.call("make_triggers_live", id=workflow)
    await tour.call("replay_trigger_events", {"workflowId": workflow, "outcome": "started", "reason": None})
    await tour.call("replay_trigger_event", id=found[0]["id"])
    await tour.call("get_trigger_info", id=workflow)
    await tour.call("get_trigger_aggregates", id=workflow)
    row = (await tour.outbox.composition.rows(sa.select(subscriptions.c.pk, subscriptions.c.org_id)))[0]
    gap = {"id": "gap_1", "org_id": row[1], "workflow_id": workflow, "subscription_pk": row[0], "created_at": 0}
    more = {"range": '{"fromBlock":1,"toBlock":9}', "reason": "more than maxCatchUpBlocks", "state": "open"}
    await tour.outbox.composition.execute(sa.insert(trigger_gaps).values(**gap, **more))
    await tour.call("list_trigger_gaps", id=workflow)
    await tour.call("replay_trigger_gap", id=workflow, gapId="gap_1")


@asynccontextmanager
async def _silent() -> AsyncIterator[str]:
    """The address of a server that reads a request and hangs up, so that its effect is unknown."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/orders"


async def _hooks(tour: Tour) -> None:
    async with receiving() as receiver:
        made = await tour.call("create_hook", {"url": receiver.url, "subscribedEventTypes": ["run.*"]})
        at: Json = {"id": made["id"]}
        await tour.start(await tour.workflow("Tell", {"tell": {"type": "log", "payload": {"message": "hello"}}}))
        await receiver.until(2)
        await tour.call("list_hooks")
        await tour.call("get_hook", **at)
        await tour.call("update_hook", **at)
        await tour.call("rotate_hook_secret", **at)
        await tour.call("try_hook", **at)
        log = (await tour.call("list_hook_deliveries"))["items"]
        await tour.call("replay_hook_delivery", id=log[-1]["id"])
        receiver.answer = lambda _: web.Response(status=500, text="down")
        failed = (await tour.call("try_hook", **at))["id"]
        await tour.call("get_hook_delivery", id=failed)
        await tour.call("retry_hook_delivery", id=failed)
        await tour.call("disable_hook", **at)
        await tour.call("enable_hook", **at)
        await tour.call("delete_hook", **at)


async def _reading(tour: Tour) -> None:
    for name in (
        "list_runs",
        "count_runs",
        "count_runs_by_workflow",
        "list_tags",
        "list_audit_entries",
        "list_audit_keys",
        "export_audit_log",
        "list_key_requests",
    ):
        await tour.call(name)


_TURN = {"POST": 0, "GET": 1, "PUT": 2, "PATCH": 2, "DELETE": 3}


async def _rest(tour: Tour) -> None:
    """The operations that no part above has called: things of each noun are made, shown, changed and deleted, by what
    is declared."""
    left = [one for name, one in declared.operations().items() if name in tour.operations and name not in tour.called]
    made: dict[str, str] = {}
    for operation in sorted(left, key=lambda one: ("{id}" in one.path, _TURN[one.method])):
        maker = declared.maker_of(operation.path)
        if maker is None:
            await tour.call(operation.name)
            continue
        if maker.name not in made:
            made[maker.name] = str((await tour.call(maker.name, declared.body_of(maker)))["id"])
        await tour.call(operation.name, id=made[maker.name])
