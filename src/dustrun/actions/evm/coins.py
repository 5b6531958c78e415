"""Assets: the native coin or an ERC-20, with symbol and decimals from the chain."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from dustrun.actions.evm import erc20
from dustrun.core.evm.abi import AbiFault
from dustrun.core.money.tokens import NATIVE, find_known, read_asset_text
from dustrun.core.values.amounts import Asset, format_units
from dustrun.records import dataclass
from dustrun.sdk.action import refuse
from dustrun.sdk.chain import Chain, ChainCall


@dataclass(frozen=True, slots=True)
class Coin:
    """The native coin (`token` is None) or an ERC-20 by its checksummed address."""

    chain_id: int
    token: str | None
    symbol: str
    decimals: int
    name: str | None = None

    @property
    def asset(self) -> Asset:
        """The asset for movements."""
        return Asset(self.chain_id, self.token)

    @property
    def address(self) -> str:
        """The token's address, `native` for the native coin."""
        return self.token or NATIVE

    def format(self, units: int) -> str:
        """An amount in whole tokens, without the symbol."""
        return format_units(units, self.decimals)

    def tell(self, units: int) -> str:
        """An amount with its symbol: `1.5 USDC`."""
        return f"{self.format(units)} {self.symbol}"

    def note(self) -> dict[str, Any]:
        """JSON form, for the notes of a `Spend`."""
        return {"chainId": self.chain_id, "token": self.token, "symbol": self.symbol, "decimals": self.decimals}

    @classmethod
    def of(cls, note: Mapping[str, Any]) -> Coin:
        """From `note()`."""
        return cls(int(note["chainId"]), note["token"], note["symbol"], int(note["decimals"]))


def native_coin(chain: Chain) -> Coin:
    """The coin that pays for gas."""
    network = chain.network
    return Coin(network.chain_id, None, network.native.symbol, network.native.decimals, network.native.name)


async def read_coin(chain: Chain, text: str, field: str) -> Coin:
    """Resolves an asset field; raises `Invalid` for an unknown symbol or a contract that is not an ERC-20."""
    address = asset_address(chain, text, field)
    return native_coin(chain) if address is None else await _read_facts(chain, address, field)


async def read_token(chain: Chain, text: str, field: str) -> Coin:
    """Like `read_coin`, but requires an ERC-20."""
    return await _read_facts(chain, token_address(chain, text, field), field)


def asset_address(chain: Chain, text: str, field: str) -> str | None:
    """The token address of an asset field, None for the native coin; raises `Invalid` for an unknown symbol. Makes no
    request.
    """
    try:
        return read_asset_text(chain.network, text)
    except ValueError as error:
        raise refuse(str(error), field) from None


def token_address(chain: Chain, text: str, field: str) -> str:
    """Like `asset_address`, but requires an ERC-20."""
    address = asset_address(chain, text, field)
    if address is None:
        raise refuse(f'"{text}" is the native coin; an ERC-20 is required here, by address or symbol', field)
    return address


async def _read_facts(chain: Chain, address: str, field: str) -> Coin:
    functions = (erc20.DECIMALS, erc20.SYMBOL, erc20.NAME)
    asked = [ChainCall(address, function.selector) for function in functions]
    decimals, symbol, name = await chain.call_many(asked)
    units = erc20.read_decimals(decimals)
    if units is None:
        raise refuse(await _why_no_token(chain, address), field)
    known = find_known(chain.network, address)
    if known is not None and known.decimals != units:
        text = f"the network file says {known.decimals} decimals for {known.symbol}, the contract says {units}"
        raise refuse(f"{text}: {address} is not the token that the file describes", field)
    shown = erc20.read_text(symbol) or (known.symbol if known else f"{address[:6]}…{address[-4:]}")
    return Coin(chain.network.chain_id, address, shown, units, erc20.read_text(name))


async def _why_no_token(chain: Chain, address: str) -> str:
    where = f"{chain.network.name} (chain {chain.network.chain_id})"
    if await chain.code(address):
        return f"the contract {address} on {where} is not an ERC-20: it does not answer decimals()"
    return f"there is no contract at {address} on {where}; check the address and the chainId"


def check_decimals(coin: Coin, expected: int | None) -> None:
    """Fails if the caller expects other decimals than the token has."""
    if expected is not None and expected != coin.decimals:
        raise refuse(
            f"{coin.symbol} has {coin.decimals} decimals, not {expected}: the amount would be "
            f"{10 ** abs(coin.decimals - expected)} times too {'large' if expected > coin.decimals else 'small'}",
            "decimals",
        )


async def read_balance(chain: Chain, coin: Coin, holder: str) -> int:
    """An address's balance, in base units."""
    return await read_balance_of(chain, coin.token, holder)


async def read_balance_of(chain: Chain, token: str | None, holder: str) -> int:
    """Like `read_balance`, by token address (None for the native coin)."""
    if token is None:
        return await chain.balance(holder)
    data = await chain.call(ChainCall(token, erc20.BALANCE_OF.encode(holder)))
    try:
        return int(erc20.BALANCE_OF.decode_result(data)[0])
    except AbiFault as fault:
        raise refuse(f"{token} does not return balances like an ERC-20: {fault.message}", "token") from None


async def check_recipient(chain: Chain, coin: Coin, recipient: str, field: str = "recipient") -> None:
    """Rejects a token contract as recipient: what is sent there is lost."""
    await check_recipients(chain, coin, {field: recipient})


async def check_recipients(chain: Chain, coin: Coin, recipients: Mapping[str, str]) -> None:
    """Like `check_recipient`, for many recipients by field."""
    refuse_tokens(coin, recipients, await find_tokens(chain, recipients.values()))


async def find_tokens(chain: Chain, addresses: Iterable[str]) -> set[str]:
    """Which of some addresses are token contracts."""
    asked, functions = list(addresses), (erc20.DECIMALS, erc20.TOTAL_SUPPLY)
    answers = await chain.call_many([ChainCall(to, function.selector) for to in asked for function in functions])
    return {
        address
        for address, decimals, supply in zip(asked, answers[::2], answers[1::2], strict=True)
        if erc20.read_decimals(decimals) is not None and supply.is_success and len(supply.data) == 32
    }


def refuse_tokens(coin: Coin, recipients: Mapping[str, str], tokens: Collection[str]) -> None:
    """Rejects recipients, by field, that are in `tokens` or are the contract of `coin` itself."""
    for field, recipient in recipients.items():
        if coin.token == recipient:
            raise refuse(f"the recipient is the contract of {coin.symbol} itself; what is sent there is lost", field)
        if recipient in tokens:
            raise refuse(f"the recipient {recipient} is a token contract; what is sent there is lost", field)
