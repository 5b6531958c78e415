"""Inputs made dust: real actions, prices of a real node, and every refusal."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest
from pydantic import Field

from actions.evm.node_wallet import NodeWallet
from dustrun.actions.evm.approve_erc20 import approve_erc20
from dustrun.actions.evm.send_erc20_token import send_erc20_token
from dustrun.actions.evm.send_native import send_native
from dustrun.actions.evm.swap_uniswap_v2 import swap_uniswap_v2
from dustrun.chain.chains import Chains
from dustrun.core.money.dust import DustRules
from dustrun.core.money.intent import FundsMovement, Spend
from dustrun.core.money.policy import WalletPolicy
from dustrun.errors import Code, Invalid, Refused
from dustrun.outbound.client import OutboundClient
from dustrun.prices.source import PriceQuestion
from dustrun.sdk import Action, Effect, Fields, action
from dustrun.sdk.chain import Price
from dustrun.services.preview.dust_scaling import Duster, Entry, ScaledInput, Scene
from dustrun.services.prices import PriceBook
from dustrun.settings import Settings
from testkit.chain.anvil import ACCOUNTS, CHAIN_ID, Anvil
from testkit.chain.contracts import ETHER, MAX, Witness, World

BOB = ACCOUNTS[3]


@pytest.fixture(scope="module")
def node(world: World) -> Iterator[Anvil]:
    with world.node() as found:
        yield found


@dataclass
class Shop:
    """Somebody who makes dust on a node."""

    witness: Witness
    chains: Chains
    wallet: NodeWallet
    http: OutboundClient
    policy: WalletPolicy = field(default_factory=WalletPolicy)

    async def policy_of(self, wallet_id: str) -> WalletPolicy | None:
        """The policy of the only wallet."""
        assert wallet_id == "wal_only"
        return self.policy

    async def scale(self, action: Action, payload: dict[str, Any], **options: Any) -> ScaledInput:
        settings = options.pop("settings", {})
        book = PriceBook.of(Settings(price_keep_ms=0, test_coin_usd=None, **settings), self.chains.get, self.http)
        duster = Duster(book, DustRules(Decimal("0.01")), self.policy_of)
        value = action.input.model_validate({"chainId": CHAIN_ID, **payload})
        return await duster.scale(
            action, value, Scene(self.chains.get, self.wallet.view.address, wallet_id="wal_only", **options)
        )

    async def only(self, action: Action, payload: dict[str, Any], **options: Any) -> tuple[Any, Entry]:
        """The input and its one entry."""
        scaled = await self.scale(action, payload, **options)
        (entry,) = scaled.entries
        return scaled.value, entry

    async def refused(self, action: Action, payload: dict[str, Any], **options: Any) -> Refused:
        with pytest.raises(Refused) as caught:
            await self.scale(action, payload, **options)
        return caught.value


@pytest.fixture
async def shop(world: World, node: Anvil) -> AsyncIterator[Shop]:
    before = node.snapshot()
    witness = world.witness(node)
    chains, http = Chains({CHAIN_ID: world.network(node.url)}, Settings()), OutboundClient((), 1_000_000, 10)
    await http.start()
    yield Shop(witness, chains, NodeWallet(witness), http)
    await http.close()
    await chains.close()
    node.revert(before)


async def test_an_amount_becomes_a_cents_worth_and_says_by_which_price(shop: Shop) -> None:
    value, entry = await shop.only(send_native, {"recipient": BOB, "amount": str(5 * ETHER)})
    assert value.amount == 4 * 10**12
    assert value.recipient == BOB
    shown = entry.public()
    assert shown["price"]["source"] in ("feed", "uniswap-v2", "uniswap-v3")
    assert {key: shown[key] for key in ("field", "asset", "original", "dust", "dustFormatted", "usd", "warnings")} == {
        "field": "amount",
        "asset": f"eip155:{CHAIN_ID}/native",
        "original": str(5 * ETHER),
        "dust": "4000000000000",
        "dustFormatted": "0.000004",
        "usd": "0.01",
        "warnings": [],
    }


async def test_what_is_less_than_dust_stays_and_tokens_may_be_named_by_symbol(shop: Shop) -> None:
    value, entry = await shop.only(send_erc20_token, {"token": "usdc", "recipient": BOB, "amount": "25"})
    assert (value.amount, entry.dusted.is_scaled) == (25, False)
    value, entry = await shop.only(send_erc20_token, {"token": "WBTC", "recipient": BOB, "amount": "100000000"})
    assert (value.amount, entry.decimals) == (17, 8)


async def test_all_there_is_becomes_dust(shop: Shop) -> None:
    value, entry = await shop.only(send_erc20_token, {"token": "USDC", "recipient": BOB, "amount": "max"})
    assert value.amount == 10_000
    assert entry.dusted.original_units == 10**12
    value, _ = await shop.only(send_native, {"recipient": BOB, "amount": "max"})
    assert value.amount == 4 * 10**12
    shop.witness.send("usdc", "transfer", ACCOUNTS[2], 10**12, sender=shop.wallet.view.address)
    value, entry = await shop.only(send_erc20_token, {"token": "USDC", "recipient": BOB, "amount": "max"})
    assert (value.amount, entry.dusted.units) == ("max", 0)  # nothing there: the action itself says so


async def test_limits_of_a_swap_scale_with_the_amount(shop: Shop) -> None:
    payload = {"tokenIn": "native", "tokenOut": "USDC", "amountIn": str(ETHER), "amountOutMin": "2400000000"}
    value, entry = await shop.only(swap_uniswap_v2, payload)
    assert (value.amount_in, value.amount_out_min) == (4 * 10**12, 9600)
    assert entry.limits == {"amountOutMin": (2_400_000_000, 9600)}
    payload = {"tokenIn": "native", "tokenOut": "USDC", "amountOut": "1000000001", "amountInMax": str(ETHER)}
    value, entry = await shop.only(swap_uniswap_v2, payload)
    assert value.amount_out == 10_000
    assert value.amount_in_max == -(-ETHER * 10_000 // 1_000_000_001)  # rounded up


async def test_an_approval_is_dust_and_never_lowers_one(shop: Shop) -> None:
    spender, owner = shop.witness.addresses["v2_router"], shop.wallet.view.address
    payload = {"token": "USDC", "spender": spender, "amount": "max"}
    value, entry = await shop.only(approve_erc20, payload)
    assert (value.amount, entry.dusted.original_units) == (10_000, MAX)
    shop.witness.send("usdc", "approve", spender, 10_000, sender=owner)
    value, entry = await shop.only(approve_erc20, payload)
    assert (value.amount, entry.dusted.units, entry.dusted.usd_units) == (10_000, 0, 0)
    shop.witness.send("usdc", "approve", spender, 777_000_000, sender=owner)
    value, entry = await shop.only(approve_erc20, {**payload, "amount": "5000000"})
    assert value.amount == 777_000_000
    assert "never lowers" in entry.warnings[0]
    refused = await shop.refused(approve_erc20, {**payload, "amount": "0"})
    assert refused.code is Code.DUST_UNSCALABLE


async def test_what_nobody_prices_is_refused_unless_the_node_has_an_amount(shop: Shop) -> None:
    payload = {"token": shop.witness.addresses["cents"], "recipient": BOB, "amount": "500"}
    refused = await shop.refused(send_erc20_token, payload)
    assert refused.code is Code.DUST_UNPRICED
    assert "DUSTRUN_STATIC_PRICES" in refused.message
    unbounded = await shop.refused(send_erc20_token, payload, override=3)
    assert unbounded.code is Code.DUST_UNPRICED
    assert "outflow.assets" in unbounded.message
    key = f"eip155:{CHAIN_ID}/erc20:{payload['token']}"
    shop.policy = WalletPolicy.model_validate({"limits": [{"asset": key, "maxUnits": "3"}]})
    assert (await shop.refused(send_erc20_token, payload, override=4)).code is Code.DUST_OVER_CAP
    shop.policy = WalletPolicy.model_validate({"outflow": {"assets": {key: "3"}}})
    value, entry = await shop.only(send_erc20_token, payload, override=3)
    assert (value.amount, entry.price) == (3, None)
    assert len(entry.warnings) == 2
    static = {"static_prices": {f"eip155:{CHAIN_ID}/erc20:{payload['token']}": "0.005"}}
    value, _ = await shop.only(send_erc20_token, payload, settings=static)
    assert value.amount == 200


async def test_a_unit_worth_more_than_the_cap_is_refused(shop: Shop) -> None:
    token = shop.witness.addresses["whole"]
    payload = {"token": token, "recipient": BOB, "amount": "3"}
    for usd in ("60000", "0.0501"):
        static = {"static_prices": {f"eip155:{CHAIN_ID}/erc20:{token}": usd}}
        assert (await shop.refused(send_erc20_token, payload, settings=static)).code is Code.DUST_OVER_CAP
        again = await shop.refused(send_erc20_token, payload, settings=static, override=1)
        assert again.code is Code.DUST_OVER_CAP
    static = {"static_prices": {f"eip155:{CHAIN_ID}/erc20:{token}": "0.05"}}
    value, entry = await shop.only(send_erc20_token, payload, settings=static)
    assert value.amount == 1
    assert "One base unit is the minimum" in entry.warnings[0]


async def test_sources_that_disagree_are_told(shop: Shop) -> None:
    shop.witness.send("eth_usd", "set", 3000 * 10**8)
    _, entry = await shop.only(
        send_erc20_token, {"token": "USDC", "recipient": BOB, "amount": "1000000"}
    )  # its pools are priced by the coin's feed
    assert "disagree by 20 %" in entry.warnings[0]


# --- movements that no action here has: through arrays, not scalable, none ---


class Row(Fields):
    amount: int = Field(description="Units.")
    token: str = Field("native", description="Which.")
    least: int | None = Field(None, description="Least.")


class Rows(Fields):
    chain_id: int = Field(description="Chain.")
    rows: list[Row] = Field(description="Rows.")


class Nothing(Fields):
    pass


def _action(*movements: FundsMovement) -> Action:
    async def finish(*_: Any) -> Nothing:
        return Nothing()

    @action(
        effect=Effect.SPEND,
        input=Rows,
        output=Nothing,
        example_input={},
        example_output={},
        funds_movement=movements,
        finish=finish,
    )
    async def spends(input: Rows, ctx: Any) -> Spend:
        return Spend()

    return spends


async def test_amounts_in_arrays_are_scaled_each_with_its_own_token(shop: Shop) -> None:
    batch = _action(FundsMovement("send", "rows[].amount", token_field="rows[].token", min_out_field="rows[].least"))
    rows = [{"amount": ETHER, "least": 10**9}, {"amount": 10**9, "token": "USDC"}, {"amount": 0}, {"amount": 7}]
    scaled = await shop.scale(batch, {"rows": rows})
    value: Any = scaled.value
    assert [row.amount for row in value.rows] == [4 * 10**12, 10_000, 0, 7]
    assert [row.least for row in value.rows] == [4000, None, None, None]
    assert [entry.field for entry in scaled.entries] == [f"rows[{n}].amount" for n in range(4)]
    assert 2 * 10**16 < scaled.usd_units < 2 * 10**16 + 10**5


async def test_the_cap_of_a_run_holds_over_the_rows_of_a_node(shop: Shop) -> None:
    batch = _action(FundsMovement("send", "rows[].amount"))
    await shop.scale(batch, {"rows": [{"amount": ETHER}] * 3}, spent_usd_units=97 * 10**16)
    refused = await shop.refused(batch, {"rows": [{"amount": ETHER}] * 4}, spent_usd_units=97 * 10**16)
    assert refused.code is Code.DUST_OVER_CAP
    assert refused.public_details()[0]["field"] == "payload.rows[3].amount"


@pytest.mark.parametrize(
    ("movements", "rows"),
    [
        ((), [{"amount": 1}]),
        ((FundsMovement("send", None, scales=False),), [{"amount": 1}]),
        ((FundsMovement("send", "rows[].amount", scales=False),), [{"amount": 1}]),
        ((FundsMovement("send", "rows[].amount"),), []),
    ],
)
async def test_what_declares_no_amount_is_refused(shop: Shop, movements: Any, rows: list[Any]) -> None:
    refused = await shop.refused(_action(*movements), {"rows": rows})
    assert refused.code is Code.DUST_UNSCALABLE
    assert 'dust: "skip"' in refused.message


async def test_a_token_that_is_none_names_its_field(shop: Shop) -> None:
    with pytest.raises(Invalid) as caught:
        await shop.scale(send_erc20_token, {"token": "USDX", "recipient": BOB, "amount": "5"})
    assert caught.value.public_details()[0]["field"] == "payload.token"


class Quoted:
    """An HTTP source in all but the wire: it says what it is told."""

    name = "http"

    def __init__(self) -> None:
        self.usd = Decimal(1)

    async def price(self, question: PriceQuestion) -> Price | None:
        return Price(self.usd, self.name, question.now_ms, 0, {})


async def test_a_price_of_http_alone_that_leaps_is_refused_with_both_figures(shop: Shop) -> None:
    source, payload = Quoted(), {"token": shop.witness.addresses["fine"], "recipient": BOB, "amount": "500"}
    duster = Duster(PriceBook(shop.chains.get, [source], 0), DustRules(Decimal("0.01")), shop.policy_of)
    value = send_erc20_token.input.model_validate({"chainId": CHAIN_ID, **payload})
    scene = Scene(shop.chains.get, shop.wallet.view.address)
    for usd in ("1", "20", "1"):  # up to twenty times more or less is believed
        source.usd = Decimal(usd)
        await duster.scale(send_erc20_token, value, scene)
    for usd in ("0.049", "20.1"):
        source.usd = Decimal(usd)
        with pytest.raises(Refused) as caught:
            await duster.scale(send_erc20_token, value, scene)
        assert caught.value.code is Code.DUST_UNPRICED
        assert f"{usd} USD, and the price before was 1 USD" in caught.value.message
