"""The pages that manage things: each does what it says, by the API, and has no fault that axe finds."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing

import pytest
from playwright.sync_api import Route, expect

from testkit.e2e.server import Server
from testkit.web.app import App, Open

ASK = {
    "root": {"type": "manual", "children": ["ask"]},
    "ask": {"type": "approve", "payload": {"message": "Pay <b>62.35</b> USDC?", "allowStarter": True}},
}


@pytest.fixture(scope="module")
def asking(server: Server) -> str:
    """A workflow that asks a person."""
    return server.create_workflow({"nodes": ASK})


@pytest.fixture
def app(shared_app: App) -> App:
    """The window of this file."""
    return shared_app


def open_question(app: App) -> str:
    """The id of the open question, as soon as there is one."""
    found = app.until(lambda: app.server.call("GET", "/v1/approvals")["items"])
    return str(found[0]["id"])


def test_a_question_is_approved_on_a_phone(member: Open, server: Server, asking: str) -> None:
    run = server.start_run(asking)
    app = member(narrow=True)
    open_question(app)
    page = app.open("/")
    expect(page.get_by_role("link", name=re.compile("^Waiting for you [1-9]"))).to_be_visible()
    assert app.faults() == []
    page.get_by_role("link", name="Review").first.click()
    expect(page.get_by_text("7 days left to decide")).to_be_visible()
    expect(page.get_by_role("region", name="What this run does")).to_contain_text("has not been simulated")
    assert app.faults() == []
    page.get_by_role("button", name="Add a comment").click()
    page.get_by_label("Comment").fill("looks right")
    page.get_by_role("button", name="Approve").click()
    expect(page.locator("header.top").get_by_text("Approved")).to_be_visible()
    expect(page.get_by_role("button", name="Approve")).to_have_count(0)
    assert app.faults() == []
    app.until(lambda: server.call("GET", f"/v1/runs/{run}")["status"] == "success")
    page.goto(f"{server.url}/approvals")
    expect(page.get_by_text("Nothing is waiting for a decision.")).to_be_visible()
    page.goto(server.url)
    expect(page.get_by_role("link", name=re.compile("^Ran live 1"))).to_be_visible()


def test_what_does_not_mend_itself_is_on_the_first_page(member: Open, server: Server, asking: str) -> None:
    hook = server.call("POST", "/v1/hooks", {"name": "Pager", "url": "https://hooks.example.com/x"})["id"]
    given_up = "status = 'disabled', disabled_at = 1, disabled_reason = 'It answered 410.'"
    with closing(sqlite3.connect(server.folder / "data" / "dustrun.db", timeout=60)) as store, store:
        store.execute(f"UPDATE hooks SET {given_up} WHERE id = ?", (hook,))
    app = member()
    page = app.open("/")
    needed = page.get_by_role("listitem").filter(has_text="A hook was given up: Pager")
    expect(needed).to_contain_text("It answered 410.")
    needed.get_by_role("link", name="See and mend").click()
    expect(page).to_have_url(f"{server.url}/hooks/{hook}")
    assert app.faults() == []
    server.call("DELETE", f"/v1/hooks/{hook}")


@pytest.mark.long
def test_a_comment_stays_when_a_question_cannot_be_read_again(app: App, server: Server, asking: str) -> None:
    server.start_run(asking)
    asked = open_question(app)
    page = app.turn_to(f"/approvals/{asked}")
    page.get_by_role("button", name="Add a comment").click()
    page.get_by_label("Comment").fill("a long thought")
    refused: list[str] = []

    def refuse(route: Route) -> None:
        refused.append(route.request.url)
        route.abort()

    page.route(re.compile(f"/v1/approvals/{asked}$"), refuse)
    other = server.start_run(asking)  # the page hears of it, and asks again three times
    app.until(lambda: len(refused) == 3)
    page.wait_for_timeout(500)
    expect(page.get_by_label("Comment")).to_have_value("a long thought")
    page.unroute_all()
    page.get_by_role("button", name="Approve").click()
    expect(page.locator("header.top").get_by_text("Approved")).to_be_visible()
    server.call("POST", f"/v1/runs/{other}/cancel")


@pytest.mark.long
def test_a_question_is_rejected_and_simulated_before(app: App, server: Server, asking: str) -> None:
    server.start_run(asking)
    page = app.turn_to(f"/approvals/{open_question(app)}")
    page.get_by_role("button", name="Simulate now").click()
    expect(page.get_by_text("The simulated column is of")).to_be_visible()
    page.get_by_role("button", name="Reject").click()
    expect(page.locator("header.top").get_by_text("Rejected")).to_be_visible()
    page.goto(f"{server.url}/approvals?show=all")
    expect(page.get_by_role("table", name="Approvals").get_by_text("Rejected")).to_be_visible()
    assert app.faults() == []
    page.goto(f"{server.url}/approvals/apr_none")
    expect(page.get_by_role("heading", name="No such approval")).to_be_visible()


@pytest.mark.long
def test_a_wallet_gets_a_policy_and_is_archived(app: App, server: Server) -> None:
    server.call("POST", "/v1/wallets", {"name": "first"})
    page = app.turn_to("/wallets")
    page.get_by_role("button", name="New wallet").click()
    page.get_by_label("Name").fill("payouts")
    assert app.faults() == []
    page.get_by_role("dialog").get_by_role("button", name="New wallet").click()
    page.wait_for_url(re.compile("/wallets/wal_"))
    wallet = page.url.rpartition("/")[2]
    expect(page.get_by_text("This wallet may do nothing yet.")).to_be_visible()
    page.get_by_role("button", name="Change policy").click()
    page.get_by_label("Chains").fill("8453\n9007199254740993")
    page.get_by_label("Methods").fill("withdraw(address to, uint256 amount) where to == wallet")
    page.get_by_role("button", name="Add a limit").click()
    page.get_by_label("At most").fill("2000.000000000000000001")
    assert app.faults() == []
    page.get_by_role("button", name="Review the change").click()
    expect(page.get_by_role("listitem").filter(has_text="chain 9007199254740993")).to_be_visible()
    expect(page.get_by_text("In the last 30 days nothing was paid or refused.")).to_be_visible()
    assert app.faults() == []
    page.get_by_role("button", name="Save policy").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.get_by_text("Try a payment").click()
    page.get_by_label("Amount").fill("0.5")
    page.get_by_label("To", exact=True).fill("0x70997970C51812dc3A010C7d01b50e0d17dc79C8")
    page.get_by_role("button", name="What would happen?").click()
    expect(page.get_by_text("It would be refused.")).to_be_visible()
    page.evaluate("history.pushState(null, '', '?says=limits[0]#policy')")
    expect(page.locator("li[aria-current]")).to_contain_text("spend up to $2,000")
    expect(page.get_by_text("spend up to $2,000.000000000000000001 a day")).to_be_visible()
    policy = server.call("GET", f"/v1/wallets/{wallet}/policy")["policy"]
    assert [str(chain) for chain in policy["chains"]] == ["8453", "9007199254740993"]
    assert policy["methods"] == [{"method": "withdraw(address to, uint256 amount)", "where": "to == wallet"}]
    expect(page.get_by_role("region", name="Limits used")).to_contain_text("$0 of $2,000.00")
    assert app.faults() == []
    page.get_by_role("button", name="Archive").click()
    page.get_by_role("dialog").get_by_role("button", name="Archive").click()
    expect(page.locator("header.top").get_by_text("Archived")).to_be_visible()
    assert server.call("GET", f"/v1/wallets/{wallet}")["archivedAt"]


@pytest.mark.long
def test_a_policy_that_is_wrong_is_refused_at_its_field(app: App, server: Server) -> None:
    wallet = server.call("POST", "/v1/wallets", {"name": "wrong"})["id"]
    page = app.turn_to(f"/wallets/{wallet}")
    page.get_by_role("button", name="Change policy").click()
    page.get_by_label("Recipients").fill("0x12")
    page.get_by_role("button", name="Review the change").click()
    expect(page.get_by_role("alert").filter(has_text="policy.recipients[0]")).to_be_visible()
    expect(page.get_by_label("Recipients")).to_have_value("0x12")


@pytest.mark.long
def test_a_policy_is_written_in_sentences_and_keeps_what_they_cannot_say(shared_app: App, server: Server) -> None:
    wallet = server.call("POST", "/v1/wallets", {"name": "said"})["id"]
    bob, eve = f"0x{1:040x}", f"0x{2:040x}"
    scoped = {"maxCount": 3, "per": "workflow", "windowMs": 3_600_000, "of": {"recipients": [bob]}}
    before = {"chains": [1], "recipients": [bob], "assets": ["*"], "limits": [scoped], "approval": {"quorum": 2}}
    server.call("PUT", f"/v1/wallets/{wallet}/policy", {"policy": before})
    page = shared_app.turn_to(f"/wallets/{wallet}")
    counted = f"It sends and signs at most 3 times in any hour for each workflow, counted only for recipients {bob}."
    expect(page.get_by_text(counted)).to_be_visible()
    expect(page.get_by_text("2 keys of different people must approve")).to_be_visible()
    page.get_by_role("button", name="Change policy").click()
    page.get_by_role("tab", name="Sentences").click()
    box = page.get_by_label("Write it in sentences")
    expect(box).to_have_value(f"on ethereum\npay {bob}")
    box.fill(f"on ethereum\npay {bob} and {eve} up to $50 a day\ndonate a little")
    page.get_by_role("button", name="Review the change").click()
    expect(page.get_by_role("alert").filter(has_text='"donate" is not known')).to_be_visible()
    expect(box).to_have_value(f"on ethereum\npay {bob} and {eve} up to $50 a day\ndonate a little")
    assert shared_app.faults() == []
    box.fill(f"on ethereum\npay {bob} and {eve} up to $50 a day")
    page.get_by_role("button", name="Review the change").click()
    expect(
        page.get_by_role("listitem").filter(has_text=f"new: pay {bob} and {eve} together up to $50 a day")
    ).to_be_visible()
    assert shared_app.faults() == []
    page.get_by_role("button", name="Save policy").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    saved = server.call("GET", f"/v1/wallets/{wallet}/policy")
    policy = (saved["pending"] or saved)["policy"]
    assert policy["recipients"] == [bob, eve]
    assert [(one["maxUsd"], one["maxCount"], one["per"]) for one in policy["limits"]] == [
        ("50", None, None),
        (None, 3, "workflow"),
    ]
    assert policy["approval"]["quorum"] == 2


@pytest.mark.long
def test_a_contract_is_named_and_forgotten(app: App, server: Server) -> None:
    page, address = app.turn_to("/wallets"), f"0x{'c1' * 20}"
    page.get_by_role("link", name="Known contracts").click()
    page.get_by_role("button", name="Name a contract").first.click()
    form = page.get_by_role("dialog")
    form.get_by_label("Address").fill("0x12")
    form.get_by_label("Name").fill("Vault")
    form.get_by_role("button", name="Name a contract").click()
    expect(form.get_by_role("alert")).to_contain_text("address")
    form.get_by_label("Address").fill(address)
    form.get_by_label("Kind").fill("vault")
    form.get_by_role("button", name="Name a contract").click()
    expect(page.get_by_role("row").filter(has_text="Vault")).to_contain_text("vault")
    assert app.faults() == []
    (known,) = server.call("GET", "/v1/contracts")["items"]
    assert (known["address"].lower(), known["name"], known["kind"]) == (address, "Vault", "vault")
    page.get_by_role("button", name="Remove Vault").click()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(page.get_by_text("No contract is named yet.")).to_be_visible()
    assert server.call("GET", "/v1/contracts")["items"] == []


@pytest.mark.long
def test_a_connector_is_made_tested_changed_and_deleted(app: App, server: Server) -> None:
    page = app.turn_to("/connectors")
    page.get_by_role("button", name="New connector").click()
    page.get_by_label("Name").fill("Prices")
    page.get_by_role("textbox", name="Token").fill("first-secret-token")
    page.get_by_label("Hosts").fill("127.0.0.1:1")
    assert app.faults() == []
    page.get_by_role("button", name="Store").click()
    page.wait_for_url(re.compile("/connectors/conn_"))
    place = f"/v1/connectors/{page.url.rpartition('/')[2]}"
    expect(page.get_by_role("region", name="Data", exact=True)).to_contain_text("•••")
    page.get_by_label("Address to ask").fill("https://127.0.0.1:1/me")
    page.get_by_role("button", name="Test now").click()
    expect(page.locator("main").get_by_text("Does not work").or_(page.get_by_role("alert"))).to_be_visible()
    page.get_by_role("button", name="Change data").click()
    page.get_by_label("Test url").fill("https://127.0.0.1:1/ping")
    page.get_by_role("button", name="Store").click()
    expect(page.get_by_text("https://127.0.0.1:1/ping")).to_be_visible()
    assert server.call("GET", place)["version"] == 2
    assert app.faults() == []
    assert "first-secret-token" not in page.content()
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_text("No connector yet.")).to_be_visible()


@pytest.mark.long
def test_a_key_is_made_and_revoked_and_the_log_tells(app: App, server: Server) -> None:
    page = app.turn_to("/keys")
    page.get_by_role("button", name="New key").click()
    form = page.get_by_role("dialog", name="New key")
    form.get_by_label("Name").fill("reader")
    form.get_by_label("Your own key, once more").fill("sk_" + "0" * 40)
    form.get_by_role("button", name="Make the key").click()
    expect(form.get_by_role("alert")).to_contain_text("not valid")
    form.get_by_label("Your own key, once more").fill(server.key)
    assert app.faults() == []
    form.get_by_role("button", name="Make the key").click()
    shown = page.get_by_role("dialog", name="The key, shown once")
    secret = str(shown.locator("code").inner_text())
    made = server.call("GET", "/v1/me", headers={"Authorization": f"Bearer {secret}"})
    assert made["keyName"] == "reader"
    assert "wallet:spend" not in made["permissions"]
    assert app.faults() == []
    shown.get_by_role("button", name="I have stored it").click()
    page.get_by_role("link", name="reader").click()
    page.get_by_role("button", name="Revoke").click()
    assert app.faults() == []
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    expect(page.get_by_role("region", name="reader").get_by_text("Revoked")).to_be_visible()
    page.goto(f"{server.url}/audit")
    entry = page.get_by_role("row").filter(has_text=re.compile(f"key.revoke.*{made['keyId']}"))
    expect(entry).to_contain_text("you")
    assert app.faults() == []


def test_one_person_lets_themselves_approve(app: App, server: Server) -> None:
    def is_on() -> bool:
        return bool(server.call("GET", "/v1/organizations")["items"][0]["singlePersonApproves"])

    page = app.turn_to("/keys")
    switch = page.get_by_role("switch", name="One person approves what their own runs ask")
    expect(switch).not_to_be_checked()
    switch.click(force=True)
    page.get_by_role("dialog").get_by_role("button", name="Let one person approve").click()
    expect(switch).to_be_checked()
    assert is_on()
    assert app.faults() == []
    # A dialog that fades out still lies over the page, and takes the click.
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.route("**/v1/organizations/*", lambda route: route.abort())
    switch.click(force=True)
    expect(page.get_by_role("alert")).to_be_visible()
    assert is_on()
    page.unroute_all()
    switch.click(force=True)
    expect(switch).not_to_be_checked()
    expect(page.get_by_role("alert")).to_have_count(0)
    assert not is_on()


@pytest.mark.long
def test_activity_shows_a_run_as_it_starts(app: App, server: Server, asking: str) -> None:
    page = app.turn_to("/activity")
    feed = page.get_by_role("list", name="Now")
    expect(page.get_by_text("listening")).to_be_visible()
    app.until(lambda: server.start_run(asking) and feed.locator("li").count())
    expect(feed.get_by_role("listitem").first).to_contain_text("Run")
    assert app.faults() == []


@pytest.mark.long
def test_a_table_is_made_and_its_rows_change_exactly(app: App, server: Server) -> None:
    page = app.turn_to("/tables")
    page.get_by_role("button", name="New table").click()
    page.get_by_label("Name").fill("orders")
    page.get_by_label("Columns").fill("id text\namount decimal\nnote json")
    page.get_by_role("dialog").get_by_role("button", name="New table").click()
    page.wait_for_url(re.compile("/tables/tbl_"))
    rows = f"/v1/tables/{page.url.rpartition('/')[2]}/rows"
    page.get_by_role("button", name="Add a row").click()
    page.get_by_label("id").fill("a/1")
    page.get_by_label("amount").fill("3127.418290517364281904")
    assert app.faults() == []
    page.get_by_role("dialog").get_by_role("button", name="Add a row").click()
    page.get_by_role("link", name="a/1").click()
    expect(page.get_by_label("amount")).to_have_value("3127.418290517364281904")
    page.get_by_label("note").fill('"5"')
    page.get_by_label("amount").fill("0.100000000000000000001")
    page.get_by_role("button", name="Save row").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.get_by_text("0.100000000000000000001")).to_be_visible()
    assert server.call("GET", rows)["items"][0]["values"]["note"] == "5"
    assert app.faults() == []
    page.get_by_role("link", name="a/1").click()
    expect(page.get_by_label("note")).to_have_value('"5"')
    page.get_by_role("button", name="Delete this row").click()
    page.get_by_role("button", name="Press again").click()
    expect(page.get_by_text("No row yet.")).to_be_visible()
    assert server.call("GET", rows)["items"] == []
    server.call("POST", rows, {"rows": [{"id": f"n{i:03}"} for i in range(60)]})
    page.reload()
    expect(page.get_by_role("link", name="n049")).to_be_attached()
    assert app.faults() == []
    page.get_by_role("button", name="Load more").evaluate("button => button.scrollIntoView()")
    expect(page.get_by_role("link", name="n059")).to_be_attached()
    server.call("POST", rows, {"rows": [{"id": f"n{i:03}"} for i in range(60, 200)]})
    page.reload()
    expect(page.get_by_role("link", name="n049")).to_be_attached()
    down = "list => list.scrollTo(0, list.scrollHeight)"
    first, last = (page.get_by_role("link", name=name) for name in ("n000", "n199"))

    tops = [0]

    def is_at_end() -> bool:
        """Of many rows only those in sight are drawn. Nobody is thrown back to the top while more come."""
        content = page.locator(".content")
        tops.append(content.evaluate("list => list.scrollTop"))
        assert tops[-1] >= tops[-2] / 2, tops
        content.evaluate(down)
        return last.count() == 1 and first.count() == 0 and page.get_by_role("row").count() < 80

    app.until(is_at_end)
    assert app.faults() == []


@pytest.mark.long
def test_triggers_show_their_next_times_and_replay_an_event(member: Open, server: Server) -> None:
    nodes = {
        "tick": {"type": "cronjob", "payload": {"schedule": "*/15 * * * *"}, "children": ["say"]},
        "hook": {"type": "webhook", "payload": {}, "children": ["say"]},
        "say": {"type": "log", "payload": {"message": "hi"}},
    }
    workflow = server.create_workflow({"nodes": nodes, "triggerNodeIds": ["tick", "hook"]})
    server.call("POST", f"/v1/workflows/{workflow}/publish", {})
    secret = server.call("POST", f"/v1/workflows/{workflow}/webhooks/hook/rotate", {})["url"].rpartition("/")[2]
    server.call("POST", f"/v1/webhooks/{secret}", {"order": "<b>7</b>"})
    app = member(dark=True)
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    app.page.route("**/v1/workflows/*/schedule", hold)
    page = app.open("/triggers")
    coming = page.get_by_role("region", name="Next times")
    app.until(lambda: held)
    expect(coming).to_be_visible()
    expect(coming.get_by_text("No schedule starts a workflow")).to_have_count(0)  # nobody knows that yet
    page.unroute("**/v1/workflows/*/schedule", hold)  # which lets them go on
    coming.get_by_role("link", name="Followed").click()
    page.wait_for_url(f"**/triggers?workflow={workflow}")
    expect(page.get_by_text("Next times")).to_be_visible()
    expect(page.locator("ol.times li")).to_have_count(10)
    page.get_by_role("button", name="Replace the URL").click()
    page.get_by_role("dialog").get_by_role("button", name="Replace the URL").click()
    shown = page.get_by_role("dialog", name="The URL, shown once")
    expect(shown).to_contain_text("whsec_")
    expect(page.get_by_role("dialog")).to_have_count(1)  # the one that asked is still fading for a moment
    assert app.faults() == []
    address = str(shown.locator("code").first.inner_text())
    shown.get_by_role("button", name="I have copied them").click()
    server.call("POST", f"/v1/webhooks/{address.rpartition('/')[2]}", {"order": "<b>8</b>"})
    expect(page.get_by_role("region", name="Webhook hook").get_by_text("valid until")).to_be_visible()
    page.get_by_role("link", name=re.compile("webhook · hook")).last.click()
    expect(page.get_by_role("region", name="Body")).to_contain_text("<b>7</b>")
    page.get_by_role("button", name="Replay", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Replay").click()
    expect(page.get_by_role("table", name="Events").get_by_role("row")).to_have_count(4)
    assert app.faults() == []
    server.call("POST", f"/v1/workflows/{workflow}/pause", {})
    for order in (9, 10):
        server.call("POST", f"/v1/webhooks/{address.rpartition('/')[2]}", {"order": order})
    server.call("POST", f"/v1/workflows/{workflow}/resume", {})
    page.get_by_role("button", name="Replay all that started no run").click()
    every = page.get_by_role("dialog", name="Replay all that started no run")
    expect(every).to_contain_text("Would be taken: 2 events.")
    assert app.faults() == []
    every.get_by_role("button", name="Simulate them").click()
    expect(every).to_contain_text("Simulated: 2 events.")
    before = server.call("GET", f"/v1/workflows/{workflow}/runs/count?mode=live")["total"]
    every.get_by_role("button", name="Replay them").click()
    expect(every).to_contain_text("Taken: 2 events.")
    assert server.call("GET", f"/v1/workflows/{workflow}/runs/count?mode=live")["total"] == before + 2
    every.get_by_role("button", name="Close").last.click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.get_by_role("button", name="Revoke").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    expect(page.get_by_text("no request is accepted")).to_be_visible()
    page.get_by_role("tab", name="Deliveries").click()
    expect(page.get_by_text("Nothing was delivered yet.")).to_be_visible()
    assert app.faults() == []


@pytest.mark.long
@pytest.mark.parametrize(("dark", "narrow"), [(False, False), (True, True)])
def test_a_hook_is_made_paused_and_deleted(member: Open, server: Server, dark: bool, narrow: bool) -> None:
    app = member(dark=dark, narrow=narrow)
    page = app.open("/hooks")
    page.get_by_role("button", name="New notice").click()
    form = page.get_by_role("dialog", name="New notice")
    form.get_by_label("Name").fill("<b>alerts</b>")
    form.get_by_label("Address").fill("https://hooks.example.com/x")
    assert app.faults() == []
    form.get_by_role("button", name="Create it").click()
    secret = page.get_by_role("dialog", name="Its secret, shown once")
    expect(secret).to_contain_text("whsec_")
    first = str(secret.locator("code").inner_text())
    secret.get_by_role("button", name="I have stored it").click()
    expect(page.get_by_role("heading", name="<b>alerts</b>")).to_be_visible()
    page.get_by_role("button", name="Send a test event").click()
    expect(page.get_by_role("region", name="The answer")).to_contain_text("hook.ping")
    page.get_by_role("button", name="New secret").click()
    page.get_by_role("dialog", name="Make a new secret?").get_by_role("button", name="New secret").click()
    expect(secret).to_contain_text("whsec_")
    assert str(secret.locator("code").inner_text()) != first
    expect(page.get_by_role("dialog")).to_have_count(1)
    assert app.faults() == []
    secret.get_by_role("button", name="I have stored it").click()
    expect(secret).to_have_count(0)
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("button", name="Resume")).to_be_visible()
    assert app.faults() == []
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_text("No notice yet.")).to_be_visible()
    assert server.call("GET", "/v1/hooks")["items"] == []


def test_a_question_says_what_shapes_the_spend_after_it(app: App, server: Server) -> None:
    ask = {"type": "approve", "payload": {"message": "Pay {{$inputs.n}}?", "allowStarter": True}, "children": ["pay"]}
    url = {"url": "https://api.example.com/price"}
    get = {"type": "http-request", "payload": url, "onError": "continue", "children": ["ask"]}
    amount = "{{string(1 * $inputs.n * (get.result.body.price ?? 1))}}"
    pay = {"chainId": 1, "recipient": "{{$inputs.to}}", "amount": amount}
    nodes = {"root": {"type": "manual", "children": ["get"]}, "get": get, "ask": ask}
    nodes["pay"] = {"type": "send-native", "payload": pay, "branch": "approved"}
    run = server.start_run(server.create_workflow({"nodes": nodes}), payload={"n": 5, "to": "0x1"})
    app.until(lambda: server.call("GET", f"/v1/runs/{run}")["status"] == "waiting")
    page = app.turn_to(f"/approvals/{open_question(app)}")
    why = page.get_by_role("region", name="Why this amount, why this recipient")
    expect(why.get_by_role("listitem").first).to_have_text("the answer of api.example.com outside")
    why.get_by_role("tab", name="To whom").click()
    expect(why.get_by_role("listitem").first).to_contain_text("$trigger.to of the manual that started the run")
    assert app.faults() == []
    server.call("POST", f"/v1/runs/{run}/cancel")


@pytest.mark.long
def test_a_report_is_printed_without_the_rest(member: Open, server: Server, asking: str) -> None:
    app = member()
    run = server.start_run(asking, simulate=True)
    app.until(lambda: server.call("GET", f"/v1/runs/{run}")["finishedAt"])
    page = app.open(f"/runs/{run}/report")
    expect(page.get_by_role("button", name="Print this page")).to_be_visible()
    assert app.faults() == []
    page.emulate_media(media="print")
    expect(page.get_by_role("navigation", name="Main")).to_be_hidden()
    expect(page.get_by_text(run)).to_be_visible()
    expect(page.get_by_role("button", name="Print this page")).to_be_hidden()
