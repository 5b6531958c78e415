"""The calls that `"*"` in `methods` covers: their calldata proves that nobody but the wallet and listed parties gains.

Neither a method's name nor its types prove anything: whoever writes a call chooses both, and a selector is short enough
to find another signature for it. So each 32-byte word is read as it is. A word is harmless if it is a small number, or
an address that is the wallet or that the policy names; nothing longer is, not even a hash. Methods of well-known
protocols are listed with their receivers (`special_methods.py`, `router_calls.py`); token transfers are judged as
movements.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from dustrun.core.evm.abi import AbiFault
from dustrun.core.evm.abi_signatures import parse_function
from dustrun.core.evm.calls import read_selector, selector_of
from dustrun.core.money.policy.counting import PolicyRequest
from dustrun.core.money.policy.document import WalletPolicy
from dustrun.core.money.policy.matching import find_account
from dustrun.core.money.policy.special_methods import WHY, is_plain, kind_of, receivers_of, special
from dustrun.core.money.router_calls import is_router_method, payees_of
from dustrun.core.money.token_calls import InnerCall, Unread, implied_movement, is_readable
from dustrun.core.values.addresses import checksum

SMALL_BITS: Final = 104
"""Numbers below 2**104 are amounts, times and ids. An address that small takes 2**56 attempts to find."""
_ADDRESS: Final = 1 << 160
_WORD: Final = 1 << 256
_FULL: Final = frozenset((1 << bits) - 1 for bits in range(SMALL_BITS, 257, 8))
"""Numbers that stand for "all of it", in any width."""


def find_doubt(policy: WalletPolicy, request: PolicyRequest, call: InnerCall, method: str | None) -> str | None:
    """Why `"*"` does not cover a call; None if it does. `method`: the signature by which it decodes."""
    selector = selector_of(call.data) or ""
    wallet = None if request.sender is None else checksum(request.sender)
    if selector in special() or (kind := kind_of(selector, method)) is not None:
        found = special().get(selector)
        kind = found.kind if found is not None else kind
        assert kind is not None
        if kind != "giving" or not _is_for_wallet(selector, method, call.data, wallet):
            return WHY[kind]
        if found is not None:
            return None
    if is_readable(selector) or is_plain(selector):
        return None
    if request.chain_id is None or implied_movement(request.chain_id, call.to, call.data) is not None:
        return None  # judged as a movement
    if is_router_method(selector):
        return _router_doubt(policy, request, call)
    return _doubt_of_words(call.data[4:], named_parties(policy, request))


def named_parties(policy: WalletPolicy, request: PolicyRequest) -> frozenset[int]:
    """The wallet and the addresses that a policy names for the request's chain, as numbers. A star names nobody."""
    entries = [*policy.recipients, *policy.contracts, *policy.assets]
    place = f"eip155:{request.chain_id}"
    names = [entry.replace("/erc20", "").rpartition(":") for entry in entries]
    own = [] if request.sender is None else [request.sender]
    found = [name for chain, _, name in names if name.startswith("0x") and chain in ("", place)]
    return frozenset(int(address, 16) for address in (*found, *own))


def covers_always(method: str) -> bool:
    """Whether `"*"` covers every call of a method that a policy names, by signature or by selector."""
    selector = read_selector(method)
    found = special().get(selector)
    if found is not None:
        return found.kind == "giving" and found.receivers == ()
    if is_readable(selector) or is_plain(selector):
        return True
    if "(" not in method or kind_of(selector, method) is not None:
        return False
    return all(_is_small(param.type) for param in parse_function(method).inputs)


def _is_small(kind: str) -> bool:
    if kind == "bool":
        return True
    digits = kind.removeprefix("u").removeprefix("int")
    return "int" in kind and digits.isdigit() and int(digits) <= SMALL_BITS


def _is_for_wallet(selector: str, method: str | None, data: bytes, wallet: str | None) -> bool:
    try:
        receivers = receivers_of(selector, method, data)
    except AbiFault:
        return False
    return receivers is not None and all(one == wallet for one in receivers)


def _router_doubt(policy: WalletPolicy, request: PolicyRequest, call: InnerCall) -> str | None:
    """The tokens of a router's methods are named, so only those that it pays matter. What it leaves with the router
    itself is judged elsewhere."""
    try:
        payees = payees_of(call)
    except Unread as fault:
        return f"cannot be decoded: {fault}"
    own = {call.to.lower(), (request.sender or "").lower(), *(f"0x{number:040x}" for number in range(3))}
    for payee in payees:
        if payee.lower() not in own and find_account(policy.recipients, request.chain_id, payee) is None:
            return f"pays {payee}, which is neither the wallet nor among the recipients"
    return None


def _doubt_of_words(data: bytes, parties: frozenset[int]) -> str | None:
    words = [int.from_bytes(data[at : at + 32].ljust(32, b"\0")) for at in range(0, len(data), 32)]
    stranger = next(_strangers(words, parties), None)
    return stranger and f"contains {stranger}, which is neither the wallet nor named in the policy"


def _strangers(words: list[int], parties: frozenset[int]) -> Iterator[str]:
    """What may name somebody else. A hash may: contracts exist that cut any word down to an address, and a call can
    hand over authority without moving anything, so no simulation would tell."""
    before = 0
    for word in words:
        left, right = divmod(word, _ADDRESS)
        is_number = word < 1 << SMALL_BITS or word >= _WORD - (1 << SMALL_BITS) or word in _FULL
        is_party = word in parties or (word >> 96 in parties and word % (1 << 96) == 0)
        if not (is_number or is_party or right == 0):
            yield _shown(word)
        if right == 0 and not is_party and _spans(before, left):
            yield f"0x{before:x}{left:024x}"
        free = min(word, _WORD - 1 - word)  # of a negative number, what differs from its sign
        before = 0 if is_party or free >= 1 << SMALL_BITS else free


def _spans(number: int, left: int) -> bool:
    """Whether an address may lie across the border of two words, as packed bytes and offsets between words place it:
    a number in the low bytes of one, and the high 12 bytes of the next."""
    if not number or not left:
        return False
    low = (left & -left).bit_length() - 1
    return (number.bit_length() + 7) // 8 + 12 - low // 8 > SMALL_BITS // 8


def _shown(word: int) -> str:
    """A word, as an address if it has the form of one."""
    if word < _ADDRESS:
        return checksum(f"0x{word:040x}")
    return checksum(f"0x{word >> 96:040x}") if word % (1 << 96) == 0 else f"0x{word:064x}"
