"""Which balances and approvals a transaction may have touched, how to read them, and what changed.

Logs only say where to look: sums of Transfer events are wrong for wrapped coins, fees on transfer and rebasing tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from functools import lru_cache
from typing import Any, Final

from dustrun.chain.simulate.creation import Ask, native, word_of
from dustrun.core.money.intent import BalanceChange, Intent, Log
from dustrun.core.money.policy.outflow import RaisedAllowance, TakenAmounts
from dustrun.core.values.addresses import ZERO_ADDRESS, address_of_word, checksum, keccak256
from dustrun.core.values.amounts import MAX_UINT256
from dustrun.records import dataclass

MAX_ASKS: Final = 250
_WATCHED_ASKS: Final = 100
_NAMED: Final = 20
_ARGUMENTS: Final = 20
_WORDS_LOOKED_AT: Final = 200
TRANSFER: Final = keccak256(b"Transfer(address,address,uint256)")
APPROVAL: Final = keccak256(b"Approval(address,address,uint256)")
APPROVAL_FOR_ALL: Final = keccak256(b"ApprovalForAll(address,address,bool)")
TRANSFER_SINGLE: Final = keccak256(b"TransferSingle(address,address,address,uint256,uint256)")
TRANSFER_BATCH: Final = keccak256(b"TransferBatch(address,address,address,uint256[],uint256[])")
_BALANCE_OF: Final = bytes.fromhex("70a08231")  # balanceOf(address)
_BALANCE_OF_ID: Final = bytes.fromhex("00fdd58e")  # balanceOf(address,uint256)
_OWNER_OF: Final = bytes.fromhex("6352211e")  # ownerOf(uint256)
_ALLOWANCE: Final = bytes.fromhex("dd62ed3e")  # allowance(address,address)
_GET_APPROVED: Final = bytes.fromhex("081812fc")  # getApproved(uint256)
_IS_APPROVED_FOR_ALL: Final = bytes.fromhex("e985e9c5")  # isApprovedForAll(address,address)
_cached = lru_cache(4096)  # the same keys are read after every transaction


@dataclass(frozen=True, slots=True)
class TouchedBalance:
    """A balance that may have changed: native coin (`token` None), an ERC-20 token, or an ERC-1155 `id` of the address
    `who`; with `who` None, the owner of the ERC-721 token `id`."""

    token: str | None
    who: str | None
    id: int | None = None

    def ask(self) -> Ask:
        """The read that returns the balance in base units, or the owner as a word."""
        if self.token is None:
            return native(self.who or ZERO_ADDRESS)
        if self.who is None:
            return Ask(self.token, _OWNER_OF + (self.id or 0).to_bytes(32))
        if self.id is not None:
            return Ask(self.token, _BALANCE_OF_ID + word_of(self.who) + self.id.to_bytes(32))
        return Ask(self.token, _BALANCE_OF + word_of(self.who))

    def asset(self, chain_id: int) -> str:
        """The asset key, modelled on CAIP-19, like `eip155:1/erc20:0x…`."""
        if self.token is None:
            return f"eip155:{chain_id}/native"
        if self.id is None:
            return f"eip155:{chain_id}/erc20:{self.token}"
        return f"eip155:{chain_id}/{'erc721' if self.who is None else 'erc1155'}:{self.token}/{self.id}"

    def key(self) -> str:
        """The text form stored in `Fork.watched`."""
        return f"{self.token or '-'} {self.who or '-'} {'-' if self.id is None else self.id}"

    @staticmethod
    @_cached
    def of(key: str) -> TouchedBalance:
        """Parses `key()`."""
        token, who, id = key.split(" ")
        return TouchedBalance(
            None if token == "-" else token,  # noqa: S105
            None if who == "-" else who,
            None if id == "-" else int(id),
        )


@dataclass(frozen=True, slots=True)
class Approval:
    """An ERC-20 allowance; with `id` the approval of one ERC-721 token, with `is_all` of a whole collection."""

    token: str
    owner: str
    spender: str
    id: int | None = None
    is_all: bool = False

    def ask(self) -> Ask:
        """The read of the allowance or approval; `public` interprets its word."""
        if self.is_all:
            return Ask(self.token, _IS_APPROVED_FOR_ALL + word_of(self.owner) + word_of(self.spender))
        if self.id is not None:
            return Ask(self.token, _GET_APPROVED + self.id.to_bytes(32))
        return Ask(self.token, _ALLOWANCE + word_of(self.owner) + word_of(self.spender))

    def public(self, chain_id: int, word: int) -> dict[str, Any]:
        """As JSON with the remaining amount: base units, 1 or 0 for an `id`, MAX_UINT256 or 0 for `is_all`."""
        asset, amount = f"erc20:{self.token}", word
        if self.is_all:
            asset, amount = f"erc721:{self.token}", MAX_UINT256 if word else 0
        elif self.id is not None:
            asset, amount = f"erc721:{self.token}/{self.id}", int(word == int(self.spender, 16))
        return {
            "owner": self.owner,
            "spender": self.spender,
            "asset": f"eip155:{chain_id}/{asset}",
            "amount": str(amount),
        }

    def key(self) -> str:
        """The text form stored in `Fork.approved`."""
        return (
            f"{self.token} {self.owner} {self.spender} {'all' if self.is_all else '-' if self.id is None else self.id}"
        )

    @staticmethod
    @_cached
    def of(key: str) -> Approval:
        """Parses `key()`."""
        token, owner, spender, id = key.split(" ")
        return Approval(token, owner, spender, None if id in ("-", "all") else int(id), id == "all")


@dataclass(slots=True)
class TouchedState:
    """The state that is read before and after the transaction; `left_out` exceeded the limit."""

    holdings: list[TouchedBalance] = field(default_factory=list)
    approvals: list[Approval] = field(default_factory=list)
    left_out: int = 0

    def asks(self) -> list[Ask]:
        """Reads before and after the transaction."""
        return [*(holding.ask() for holding in self.holdings), *(approval.ask() for approval in self.approvals)]


def touched(
    intent: Intent,
    sender: str,
    logs: Sequence[Log],
    moved: Iterable[str],
    creates: str | None,
    watched: Iterable[str],
    approved: Iterable[str],
) -> TouchedState:
    """Everything that a transaction may have touched, most certain first. `watched` and `approved` are keys touched by
    earlier transactions: a rebasing token changes balances without events."""
    holdings = dict.fromkeys(_holdings(intent, sender, logs, moved, creates))
    holdings.update(dict.fromkeys(TouchedBalance.of(key) for key in list(watched)[-_WATCHED_ASKS:]))
    collections = {log.address for log in logs if _is_nft_transfer(log)}  # read by id, not by balance
    wanted = [holding for holding in holdings if holding.id is not None or holding.token not in collections]
    tokens = {log.address for log in logs} | {intent.to}
    approvals = dict.fromkeys(_approvals(intent, sender, logs))
    earlier_approvals = [Approval.of(key) for key in approved]
    approvals.update(dict.fromkeys(approval for approval in earlier_approvals if approval.token in tokens))
    found = TouchedState(wanted[:MAX_ASKS], list(approvals)[:MAX_ASKS])
    found.left_out = len(wanted) + len(approvals) - len(found.holdings) - len(found.approvals)
    return found


def _holdings(
    intent: Intent, sender: str, logs: Sequence[Log], moved: Iterable[str], creates: str | None
) -> Iterator[TouchedBalance]:
    yield TouchedBalance(None, sender)
    for address in (intent.to, creates, *moved):
        if address is not None:
            yield TouchedBalance(None, address)
    for movement in intent.movements:
        yield TouchedBalance(movement.asset.token, sender)
        if intent.to is not None:  # movements do not know the address of a created contract
            yield TouchedBalance(movement.asset.token, checksum(movement.counterparty))
    if intent.to is not None and intent.data:
        yield TouchedBalance(intent.to, sender)  # reverts if `to` is not a token
        for who in _named(intent.data):  # paid by a self-destructing contract, or by a token without events
            yield TouchedBalance(None, who)
            yield TouchedBalance(intent.to, who)
    if intent.to is None:
        for who in _named(bytes(4) + _arguments(intent.data)):
            yield TouchedBalance(None, who)
    for log in logs:
        yield from _of_log(log)


def _of_log(log: Log) -> Iterator[TouchedBalance]:
    topic = log.topics[0] if log.topics else b""
    if _is_nft_transfer(log):
        yield TouchedBalance(log.address, None, int.from_bytes(log.topics[3]))
    elif topic in (TRANSFER_SINGLE, TRANSFER_BATCH) and len(log.topics) == 4:
        for id in _ids(topic, log.data):
            for word in log.topics[2:4]:
                if any(word):
                    yield TouchedBalance(log.address, address_of_word(word), id)
    else:
        for who in _addresses(log):
            yield TouchedBalance(log.address, who)


def _is_nft_transfer(log: Log) -> bool:
    return len(log.topics) == 4 and log.topics[0] == TRANSFER


def _addresses(log: Log) -> Iterator[str]:
    """Addresses in the topics of an event, or in its data if it is a Transfer without indexed fields (old tokens)."""
    words = list(log.topics[1:])
    if len(log.topics) == 1 and log.topics[0] in (TRANSFER, APPROVAL) and len(log.data) == 96:
        words = [log.data[:32], log.data[32:64]]
    is_sure = log.topics[:1] in ((TRANSFER,), (APPROVAL,))  # elsewhere a small number is probably not an address
    for word in words:
        if len(word) == 32 and not any(word[:12]) and (is_sure or int.from_bytes(word) > 0xFFFF):
            yield address_of_word(word)


def _named(data: bytes) -> list[str]:
    """Words of calldata that look like addresses."""
    words = (data[place : place + 32] for place in range(4, min(len(data), 4 + 32 * _WORDS_LOOKED_AT), 32))
    return list(dict.fromkeys(address_of_word(word) for word in words if _looks_like_address(word)))[:_NAMED]


def _arguments(init_code: bytes) -> bytes:
    """The last words of creation bytecode, where the constructor arguments follow the code."""
    return init_code[len(init_code) % 32 :][-32 * _ARGUMENTS :]


def _looks_like_address(word: bytes) -> bool:
    return len(word) == 32 and not any(word[:12]) and int.from_bytes(word) > 2**80


def _ids(topic: bytes, data: bytes) -> list[int]:
    words = [int.from_bytes(data[place : place + 32]) for place in range(0, len(data) - 31, 32)]
    if topic == TRANSFER_SINGLE:
        return words[:1]
    if not words or words[0] % 32 or words[0] // 32 >= len(words):
        return []
    start = words[0] // 32
    return words[start + 1 : start + 1 + words[start]][:MAX_ASKS]


def _approvals(intent: Intent, sender: str, logs: Sequence[Log]) -> Iterator[Approval]:
    for movement in intent.movements:
        if movement.kind == "approve" and movement.asset.token is not None:
            yield Approval(checksum(movement.asset.token), sender, checksum(movement.counterparty))
    for log in logs:
        if _is_payment(log, sender) and intent.to not in (None, log.address):
            yield Approval(log.address, sender, str(intent.to))  # the allowance that the called contract still has
        if len(log.topics) not in (3, 4) or log.topics[0] not in (APPROVAL, APPROVAL_FOR_ALL):
            continue
        owner, spender = address_of_word(log.topics[1]), address_of_word(log.topics[2])
        if log.topics[0] == APPROVAL_FOR_ALL:
            yield Approval(log.address, owner, spender, is_all=True)
        elif len(log.topics) == 4:
            if int(spender, 16):
                yield Approval(log.address, owner, spender, int.from_bytes(log.topics[3]))
        else:
            yield Approval(log.address, owner, spender)


def _is_payment(log: Log, sender: str) -> bool:
    """Whether the event is an ERC-20 transfer from the sender."""
    return len(log.topics) == 3 and log.topics[0] == TRANSFER and address_of_word(log.topics[1]) == sender


def changes_of(
    holdings: Sequence[TouchedBalance],
    before: Sequence[int | None],
    after: Sequence[int | None],
    chain_id: int,
    fees: Mapping[str, int],
) -> tuple[BalanceChange, ...]:
    """Non-zero balance changes in base units. `fees` are the fees that the node charged each address (negative for the
    block producer); they are excluded."""
    found: list[BalanceChange] = []
    for holding, was, now in zip(holdings, before, after, strict=False):
        asset = holding.asset(chain_id)
        if holding.who is None:
            found += _new_owner(asset, was, now)
            continue
        if was is None and now is None:
            continue
        delta = (now or 0) - (was or 0)  # a token created by this transaction had no balances before
        if holding.token is None:
            delta += fees.get(holding.who, 0)
        if delta:
            found.append(BalanceChange(holding.who, asset, delta))
    return tuple(found)


def taken_of(
    sender: str,
    changes: Iterable[BalanceChange],
    approvals: Sequence[Approval],
    before: Sequence[int | None],
    after: Sequence[int | None],
) -> TakenAmounts:
    """The loss of a transaction's sender; `before` and `after` are the words of the approvals."""
    lost = [each for each in changes if each.address == sender and each.delta_units < 0]
    raised = []
    for approval, was, now in zip(approvals, before, after, strict=False):
        old, new = (int(approval.public(0, word or 0)["amount"]) for word in (was, now))
        if approval.owner == sender and new > old:
            raised.append(RaisedAllowance(approval.token, approval.spender, old, new))
    return TakenAmounts({each.asset: -each.delta_units for each in lost}, tuple(raised))


def _new_owner(asset: str, was: int | None, now: int | None) -> list[BalanceChange]:
    """Transfer of an ERC-721 token; no previous owner means minted, no new one burnt."""
    if was == now:
        return []
    sides = ((was, -1), (now, 1))
    return [BalanceChange(checksum(f"0x{owner:040x}"), asset, delta) for owner, delta in sides if owner]
