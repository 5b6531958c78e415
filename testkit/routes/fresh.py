"""What a request uses up, made anew before each of its repetitions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping

import build_web
import sqlalchemy as sa

from dustrun import ids
from dustrun.storage.db.trigger_tables import subscriptions, trigger_gaps
from testkit.authenticator import Authenticator
from testkit.chain.anvil import ACCOUNTS, CHAIN_ID
from testkit.declared import CONSENTED
from testkit.e2e.node import npm_install
from testkit.routes import bodies
from testkit.routes.bodies import TEXT
from testkit.routes.drivers import body_of
from testkit.routes.stored import CHANGED, LARGE, LARGE_VALUES, NUMBERS, Stored, each, one_node

TRIGGER = "root"

PAST = {"from": "2025-01-01T00:00:00Z", "to": "2025-12-31T00:00:00Z", "limit": 200, "waitMs": 60_000}


async def fresh_key(stored: Stored) -> Mapping[str, str]:
    """A key that made a page of keys."""
    made = await stored.send("POST", "/v1/api-keys", {"name": TEXT, "permissions": ["admin"]})
    for _ in range(20):
        await stored.drivers.call("POST", "/v1/api-keys", body_of({"name": TEXT, "scope": "read"}), key=made["key"])
    return {"id": str(made["id"])}


def new_address() -> str:
    """An e-mail address that nobody has."""
    return f"{ids.new_id('to')}@example.com"


def new_role() -> str:
    """A name that no role has."""
    return ids.new_id("r").replace("_", "-")


async def no_roles(stored: Stored) -> Mapping[str, str]:
    """Deletes the roles of earlier requests."""
    for one in (await stored.send("GET", "/v1/roles?limit=100"))["items"]:
        if not one["builtIn"]:
            await stored.send("DELETE", f"/v1/roles/{one['name']}")
    return {}


async def fresh_role(stored: Stored) -> Mapping[str, str]:
    """A role that nobody has."""
    await no_roles(stored)
    made = await stored.send("POST", "/v1/roles", {"name": new_role(), "permissions": ["run:read"]})
    return {"id": str(made["name"])}


async def fresh_account(stored: Stored) -> Mapping[str, str]:
    """A service account that has a page of keys."""
    body = {"name": ids.new_id("svc"), "permissions": ["run:read"], "description": TEXT}
    account = await stored.send("POST", "/v1/service-accounts", body)
    for _ in range(20):
        await stored.send("POST", "/v1/api-keys", {"name": TEXT, "serviceAccountId": account["id"]})
    return {"id": str(account["id"])}


async def fresh_account_key(stored: Stored) -> Mapping[str, str]:
    """A key of a service account."""
    account = await fresh_account(stored)
    made = await stored.send("POST", "/v1/api-keys", {"name": TEXT, "serviceAccountId": account["id"]})
    return {"id": str(made["id"])}


async def invited(stored: Stored) -> Mapping[str, str]:
    """A person who has a page of keys."""
    body = {"name": TEXT, "email": new_address(), "permissions": ["admin"]}
    person = await stored.send("POST", "/v1/people", body)
    key = await stored.send("POST", "/v1/api-keys", {"name": TEXT, "permissions": ["admin"]})
    await stored.send("PATCH", f"/v1/people/{person['id']}", {"keyIds": [key["id"]]})
    for _ in range(20):
        await stored.drivers.call("POST", "/v1/api-keys", body_of({"name": TEXT, "scope": "read"}), key=key["key"])
    return {"id": str(person["id"])}


async def fresh_connector(stored: Stored) -> Mapping[str, str]:
    return {"id": str((await stored.send("POST", "/v1/connectors", bodies.connector(stored)))["id"])}


async def fresh_consented(stored: Stored) -> Mapping[str, str]:
    """A connector that a person consents to."""
    return {"id": str((await stored.send("POST", "/v1/connectors", CONSENTED))["id"])}


async def fresh_state(stored: Stored) -> Mapping[str, str]:
    """A consent that has begun."""
    made = await fresh_consented(stored)
    begun = await stored.send("POST", f"/v1/connectors/{made['id']}/consent")
    return {"state": str(begun["url"]).partition("state=")[2].partition("&")[0]}


async def fresh_import(stored: Stored) -> Mapping[str, str]:
    return {"id": str((await stored.send("POST", "/v1/catalog/imports", bodies.imported(stored)))["id"])}


async def room_for_hooks(stored: Stored) -> Mapping[str, str]:
    """Deletes the hooks of earlier requests."""
    for one in (await stored.send("GET", "/v1/hooks?limit=100"))["items"]:
        if one["id"] != stored.known["hook"]:
            await stored.send("DELETE", f"/v1/hooks/{one['id']}")
    return {}


async def fresh_hook(stored: Stored) -> Mapping[str, str]:
    await room_for_hooks(stored)
    return {"id": str((await stored.send("POST", "/v1/hooks", bodies.hook(stored)))["id"])}


async def fresh_delivery(stored: Stored) -> Mapping[str, str]:
    """A delivery that did not arrive."""
    return {"id": str((await stored.send("POST", f"/v1/hooks/{stored.known['hook']}/test"))["id"])}


async def fresh_wallet(stored: Stored) -> Mapping[str, str]:
    return {"id": str((await stored.send("POST", "/v1/wallets", {"name": TEXT}))["id"])}


async def fresh_table(stored: Stored) -> Mapping[str, str]:
    """A table with rows of the largest size; its name may be taken by none."""
    made = await stored.send("POST", "/v1/tables", bodies.table(stored))
    await stored.send("POST", f"/v1/tables/{made['id']}/rows", {"rows": [{"id": n, "data": NUMBERS} for n in range(3)]})
    return {"id": str(made["id"])}


async def fresh_row(stored: Stored) -> Mapping[str, str]:
    at = f"/v1/tables/{stored.known['table']}/rows"
    await stored.send("POST", at, {"rows": [{"id": 9_999, "data": NUMBERS}], "mode": "upsert"})
    return {"key": "9999"}


async def fresh_rows(stored: Stored) -> Mapping[str, str]:
    made = await stored.send("POST", "/v1/tables", bodies.table(stored))
    for n in range(LARGE_VALUES // 3):
        rows = [{"id": 3 * n + more, "data": NUMBERS} for more in range(3)]
        await stored.send("POST", f"/v1/tables/{made['id']}/rows", {"rows": rows})
    return {"id": str(made["id"])}


async def fresh_variable(stored: Stored) -> Mapping[str, str]:
    at = f"/v1/workflows/{stored.known['large']}/variables/gone"
    await stored.send("PUT", at, {"type": "list", "default": NUMBERS})
    await stored.send("POST", f"{at}/value", {"value": NUMBERS})
    return {"name": "gone"}


async def accepted(stored: Stored) -> Mapping[str, str]:
    """A version that is accepted."""
    await stored.send("POST", f"/v1/workflows/{stored.known['foreign']}/versions/1/accept")
    return {}


async def fresh_approval(stored: Stored) -> Mapping[str, str]:
    """An approval of a run that asks a page of them."""
    ask = {"type": "approve", "payload": {"message": "m" * 4_000, "allowStarter": True}}
    run = await stored.begin({"nodes": {"root": {"type": "manual", "children": ["ask"]}, "ask": ask}})
    await stored.until(run, "waiting")
    found = (await stored.send("GET", "/v1/approvals?status=pending&limit=1"))["items"]
    assert found[0]["runId"] == run
    return {"id": str(found[0]["id"]), "run": run}


async def waiting(stored: Stored) -> Mapping[str, str]:
    """A run that waits, whose answer goes on to a node that keeps it."""
    wait = {"type": "wait", "payload": {"timeoutMs": 60_000}, "children": ["log"]}
    log = {"type": "log", "payload": {"message": "{{$nodes.n.result.triggerResult.rows}}"}}
    run = await stored.begin(one_node(wait, log=log))
    await stored.until(run, "waiting")
    return {"id": run, "nodeId": "n", "run": run}


async def waiting_much(stored: Stored) -> Mapping[str, str]:
    """A run with many nodes that wait."""
    wait = {"type": "wait", "payload": {"timeoutMs": 60_000}}
    waits = {f"wait{number}": wait for number in range(900)}
    root = {"type": "manual", "children": list(waits)}
    run = await stored.begin({"nodes": {"root": root, **waits}, "triggerNodeIds": ["root"]})
    await stored.until(run, "waiting")
    return {"id": run, "run": run}


async def uncertain(stored: Stored) -> Mapping[str, str]:
    """A run with 4,000 executions, one of which may have happened."""
    order = {"type": "http-request", "payload": {"method": "POST", "url": stored.silent, "body": {"item": 1}}}
    loop = {**each("log", list(range(1_000))), "children": ["order"]}
    log = {"type": "log", "payload": {"message": "w" * 900}}
    run = await stored.begin(one_node(loop, log=log, order=order))
    await stored.until(run, "waiting")
    return {"id": run, "nodeId": "order", "run": run}


async def sent(stored: Stored) -> Mapping[str, str]:
    """A transaction that no block has taken yet."""
    pay = {"type": "send-native", "payload": {"chainId": CHAIN_ID, "recipient": ACCOUNTS[3], "amount": "1"}}
    run = await stored.begin(one_node(pay))
    while True:
        found = (await stored.send("GET", "/v1/transactions?status=sent&limit=100"))["items"]
        if mine := [one["id"] for one in found if one["runId"] == run]:
            return {"id": str(mine[0])}


async def sign_in_token(stored: Stored) -> Mapping[str, str]:
    """The token of a link that signs in."""
    link = await stored.send("POST", "/v1/session/links")
    stored.known["token"] = str(link["url"]).partition("signin=")[2]
    return {}


async def at_home(stored: Stored) -> Mapping[str, str]:
    """The next request is for the address that the provider sends people back to."""
    stored.drivers.next_headers = [(b"host", b"127.0.0.1:8080")]
    return {}


async def answered_by_provider(stored: Stored) -> Mapping[str, str]:
    """What the provider sends a browser back with; the next request comes from that browser."""
    await at_home(stored)
    begun = await stored.send("POST", "/v1/session/provider")
    cookie = stored.drivers.answered[b"set-cookie"].partition(b";")[0]
    stored.drivers.next_headers = [(b"cookie", cookie)]
    stored.known["answered"] = json.dumps(stored.provider.sign_in(begun["url"], "ada"))
    return {}


async def signed_in(stored: Stored) -> Mapping[str, str]:
    """A session of the key that asks."""
    await sign_in_token(stored)
    await stored.send("POST", "/v1/session/redeem", {"token": stored.known["token"]})
    return {"id": str((await stored.send("GET", "/v1/sessions"))["items"][0]["id"])}


async def signed_in_person(stored: Stored) -> Mapping[str, str]:
    """A person who has a session."""
    person = (await invited(stored))["id"]
    link = str((await stored.send("POST", f"/v1/people/{person}/links"))["url"])
    await stored.send("POST", "/v1/session/redeem", {"token": link.partition("signin=")[2]})
    (session,) = (await stored.send("GET", f"/v1/people/{person}/sessions"))["items"]
    return {"id": person, "session": str(session["id"])}


async def as_person(stored: Stored) -> Mapping[str, str]:
    """The next request is a person's, with a key of theirs."""
    person = await stored.send(
        "POST", "/v1/people", {"name": TEXT, "email": new_address(), "permissions": ["run:read"]}
    )
    key = await stored.send("POST", "/v1/api-keys", {"name": TEXT, "permissions": ["run:read"]})
    await stored.send("PATCH", f"/v1/people/{person['id']}", {"keyIds": [key["id"]]})
    stored.drivers.next_key = key["key"]
    return {"person": str(person["id"])}


async def made_passkey(stored: Stored) -> Mapping[str, str]:
    """A browser has made a passkey for a person, who sends it next."""
    person = await as_person(stored)
    key = stored.drivers.next_key
    _, answer = await stored.drivers.call("POST", "/v1/passkeys/begin")
    device = Authenticator(stored.server.parts.settings.base_url())
    credential = device.create(json.loads(answer)["data"]["publicKey"])
    stored.known["credential"] = json.dumps(credential)
    stored.drivers.next_key = key
    stored.devices["newest"] = device
    return person


async def own_passkey(stored: Stored) -> Mapping[str, str]:
    """A passkey of the person who asks next."""
    person = await made_passkey(stored)
    key = stored.drivers.next_key
    body = {"name": TEXT, "credential": json.loads(stored.known["credential"])}
    _, answer = await stored.drivers.call("POST", "/v1/passkeys", body_of(body))
    stored.drivers.next_key = key
    return {"id": str(json.loads(answer)["data"]["id"]), "person": person["person"]}


async def passkey_of_person(stored: Stored) -> Mapping[str, str]:
    """A person who has a passkey."""
    found = await own_passkey(stored)
    stored.drivers.next_key = None
    return {"id": found["person"]}


async def used_passkey(stored: Stored) -> Mapping[str, str]:
    """An authenticator has answered for a person, whose browser sends it next."""
    await passkey_of_person(stored)
    asked = await stored.send("POST", "/v1/session/passkey")
    stored.known["credential"] = json.dumps(stored.devices["newest"].get(asked["publicKey"]))
    return {}


async def webhook_address(stored: Stored) -> Mapping[str, str]:
    """A new address of a webhook."""
    made = await stored.send("POST", f"/v1/workflows/{stored.known['webhook']}/webhooks/{TRIGGER}/rotate", {})
    return {"secret": str(made["url"]).rsplit("/", 1)[1]}


async def form_link(stored: Stored) -> Mapping[str, str]:
    """A new link to a form, and a submission of it."""
    at = f"/v1/workflows/{stored.known['asking']}/forms"
    listed = await stored.send("GET", at)
    for one in [one for one in listed if one["state"] == "open"][20:]:
        await stored.send("DELETE", f"{at}/{one['id']}")
    made = await stored.send("POST", at, {"maxRuns": 100_000})
    secret = str(made["url"]).rsplit("/", 1)[1]
    sent = await stored.send("POST", f"/v1/forms/{secret}", {"values": {}})
    return {"formId": str(made["id"]), "secret": secret, "submissionId": str(sent["submissionId"])}


async def rehearsing(stored: Stored) -> Mapping[str, str]:
    """A trigger that simulates what it starts."""
    at = f"/v1/workflows/{stored.known['follower']}"
    say = {"type": "log", "payload": {"message": ids.new_id("m") + "m" * 900_000}}
    nodes = {**stored.following["nodes"], "say": say}
    await stored.send("PUT", at, {"definition": {"nodes": nodes}})
    await stored.send("POST", f"{at}/publish")
    return {}


async def gap(stored: Stored) -> Mapping[str, str]:
    """Blocks that a trigger has missed."""
    row = (await stored.server.rows(sa.select(subscriptions.c.pk, subscriptions.c.org_id)))[0]
    made = {"id": ids.new_id("gap"), "org_id": row[1], "workflow_id": stored.known["follower"], "created_at": 0}
    missed = {"range": '{"fromBlock":1,"toBlock":9}', "reason": "more than maxCatchUpBlocks", "state": "open"}
    await stored.server.execute(sa.insert(trigger_gaps).values(subscription_pk=row[0], **made, **missed))
    return {"gapId": made["id"]}


async def published(stored: Stored) -> Mapping[str, str]:
    """The large workflow with a draft beside its live version."""
    at = f"/v1/workflows/{stored.known['spare']}"
    await stored.drivers.call("POST", f"{at}/unarchive")
    await stored.drivers.call("POST", f"{at}/publish")
    await stored.send("PUT", at, {"definition": CHANGED})
    await stored.send("PUT", at, {"definition": LARGE})
    return {}


async def ticking(stored: Stored) -> Mapping[str, str]:
    """A workflow that a schedule would fire."""
    if "ticking" not in stored.known:
        tick = {"type": "cronjob", "payload": {"schedule": "@daily"}, "children": ["say"]}
        nodes = {"tick": tick, "say": {"type": "log", "payload": {"message": "t" * 900}}}
        body = {"name": "ticking", "description": "", "definition": {"nodes": nodes, "triggerNodeIds": ["tick"]}}
        stored.known["ticking"] = str((await stored.send("POST", "/v1/workflows", body))["id"])
    return {"id": stored.known["ticking"]}


async def backtest(stored: Stored) -> Mapping[str, str]:
    """A back-test of 200 events that has ended."""
    if "backtest" not in stored.known:
        place = f"/v1/workflows/{(await ticking(stored))['id']}/backtest"
        stored.known["backtest"] = str((await stored.send("POST", place, PAST))["id"])
    return {"id": stored.known["backtest"]}


async def asked(stored: Stored) -> Mapping[str, str]:
    """A conversation, and a model that hangs up."""
    if "model" not in stored.known:
        prices, site = {"*": {"inputUsd": "1", "outputUsd": "1"}}, stored.silent.rpartition("/")[0]
        data = {"model": "small", "prices": prices, "baseUrl": f"{site}/v1"}
        body = {"type": "llm-openai", "name": "model", "data": data, "allowedHosts": [site]}
        stored.known["model"] = str((await stored.send("POST", "/v1/connectors", body))["id"])
    return {"id": str((await stored.send("POST", "/v1/conversations", {"title": "asked"}))["id"])}


async def turned(stored: Stored) -> Mapping[str, str]:
    """A turn, under way or ended."""
    found = await asked(stored)
    turn = await stored.send("POST", f"/v1/conversations/{found['id']}/turns", {"text": "Hi"})
    return {**found, "messageId": str(turn["messageId"])}


async def largest_asset(_: Stored) -> Mapping[str, str]:
    """The largest file of the web app, which is built if nobody has built it yet."""
    await asyncio.to_thread(npm_install, build_web.SOURCES)
    await asyncio.to_thread(build_web.build)
    return {"name": max((build_web.BUILT / "assets").iterdir(), key=lambda path: path.stat().st_size).name}
