"""A newcomer's two tasks that pay, on a chain, until the simulation has passed; counted as in `test_newcomer.py`."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import pytest
from devchain import chain as devchain
from devchain.market import ETHER
from devchain.node import CHAIN_ID
from playwright.sync_api import expect
from price_source import PRICES

from testkit.e2e.server import Server
from testkit.ports import free_port
from testkit.web.app import App
from testkit.web.newcomer import Newcomer

RECIPIENT = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
CHAIN = str(CHAIN_ID)
pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that knows the local chain, with a wallet that has coins and may spend some."""
    folder = tmp_path_factory.mktemp("chain")
    with devchain.opened(folder, free_port(), Decimal(PRICES["ETH"])) as chain:
        server = Server(tmp_path_factory.mktemp("server"), networks_dir=str(chain.networks_dir))
        try:
            server.start()
            wallet = server.call("POST", "/v1/wallets", {"name": "Savings", "kind": "local"})
            chain.node.ask("anvil_setBalance", wallet["address"], hex(ETHER))
            at = chain.addresses
            policy = {
                "chains": [CHAIN_ID],
                "assets": [f"eip155:{CHAIN_ID}/native", f"eip155:{CHAIN_ID}/erc20:{at['usdc']}"],
                "recipients": [RECIPIENT],
                "contracts": [at["v2Router"]],
                "methods": ["swapExactETHForTokensSupportingFeeOnTransferTokens(uint256,address[],address,uint256)"],
                "limits": [{"maxUsd": "500"}],
            }
            server.call("PUT", f"/v1/wallets/{wallet['id']}/policy", {"policy": policy})
            yield server
        finally:
            server.close()


@pytest.fixture
def person(app: App) -> Newcomer:
    """Somebody who has never been here."""
    return Newcomer(app)


def test_a_purchase_is_guarded_by_a_price(person: Newcomer) -> None:
    person.begin("On a schedule")
    person.press_button("every Monday at 9:00")
    when = person.inspector.get_by_role("textbox", name="When")
    expect(when).to_have_value("mondays at 09:00")
    expect(person.inspector.locator(".times li")).to_have_count(5)
    when.fill("every blue moon")
    expect(person.inspector.get_by_text("I do not understand “every blue moon”.")).to_be_visible()
    when.fill("every 10 minutes")
    person.add("get price")
    expect(person.inspector.get_by_role("combobox", name="Chain ID", exact=True)).to_have_value(CHAIN)
    person.add("if")
    person.fill("Expression", "$nodes.getPrice.result.usd < 5000")
    person.add("buy", branch="Yes")
    person.choose("Token in", "native")
    person.choose("Token out", "USDC")
    person.fill("In ETH", "0.01")
    nodes = person.simulate()
    start = next(iter(nodes.values()))
    assert (start["type"], start["payload"]) == ("interval", {"everyMs": 600_000})
    assert nodes["swapUniswapV2"]["branch"] == "then"
    assert nodes["swapUniswapV2"]["payload"]["amountIn"] == str(ETHER // 100)
    person.took(14, 55)


def test_a_payout_is_approved_first(person: Newcomer) -> None:
    person.begin()
    person.add("approve")
    person.write("Pay Ann?")
    person.add("pay", branch="approved")
    person.write(RECIPIENT)
    person.fill("In ETH", "0.01")
    person.click(person.page.get_by_role("button", name="Simulate", exact=True))
    why = person.page.get_by_role("region", name="Run and effects").get_by_role("list", name="Warnings")
    expect(why).to_contain_text("Approve: Nobody answers a simulation")
    person.click(person.page.locator(".card").filter(has_text="Approve"))
    person.choose("Simulate as", "approved")
    nodes = person.simulate()
    assert nodes["sendNative"]["branch"] == "approved"
    expect(why).to_have_count(0)
    person.took(9, 66)
