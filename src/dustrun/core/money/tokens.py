"""Names of tokens: finds the asset of `native`, a symbol of the network file or an address, and decodes the name or
symbol that a contract answers."""

from __future__ import annotations

import difflib
from typing import Final

from dustrun.core.evm.abi import AbiFault
from dustrun.core.evm.abi_signatures import parse_function
from dustrun.core.evm.network import Network, Token
from dustrun.core.values.addresses import ZERO_ADDRESS, read_address

_TEXT: Final = parse_function("name() view returns (string)")

NATIVE = "native"


def find_known(network: Network, address: str) -> Token | None:
    """The network file's entry of a token, or None."""
    return next((token for token in network.tokens if token.address.lower() == address.lower()), None)


def read_asset_text(network: Network, text: str) -> str | None:
    """A token's checksummed address, None for the native coin; raises `ValueError` with a suggestion."""
    name = text.strip()
    if name.lower() == NATIVE:
        return None
    if name[:2].lower() == "0x":
        address = read_address(name)
        if address == ZERO_ADDRESS:
            raise ValueError(f'the zero address is not a token; write "{NATIVE}" for the native coin')
        return address
    found = [token for token in network.tokens if token.symbol.lower() == name.lower()]
    if len(found) == 1:
        return read_address(found[0].address)
    if found:
        raise ValueError(f'"{name}" matches {len(found)} tokens of {network.name}; give the token\'s address')
    if name.lower() == network.native.symbol.lower():
        return None
    raise ValueError(_unknown(network, name))


def _unknown(network: Network, name: str) -> str:
    known = [network.native.symbol, *(token.symbol for token in network.tokens)]
    close = difflib.get_close_matches(name.upper(), {symbol.upper() for symbol in known}, n=1)
    hint = f' Did you mean "{close[0]}"?' if close else f" Known are {', '.join(known)}."
    return f'{network.name} (chain {network.chain_id}) has no token "{name[:40]}"; give its address.{hint}'


def read_text(data: bytes) -> str | None:
    """Decodes a string, or bytes32 as early tokens return it; None when the result has no printable text."""
    try:
        text = data.rstrip(b"\0").decode() if len(data) == 32 else _TEXT.decode_result(data)[0]
    except (AbiFault, UnicodeDecodeError):
        return None
    return text if text.isprintable() and 0 < len(text) <= 100 else None
