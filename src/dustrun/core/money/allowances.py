"""Standing allowances of a wallet: ERC-20, whole collections (ERC-721 and ERC-1155), and Permit2. How each is read on
the chain, and the call that takes it back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal

from dustrun.core.evm.abi_signatures import parse_function
from dustrun.core.evm.calls import selector_of
from dustrun.core.money.accounting import allowances_in
from dustrun.core.money.intent import Intent, Log, Movement
from dustrun.core.money.permits import PERMIT2
from dustrun.core.money.token_calls import APPROVE, PERMIT2_APPROVE, SET_APPROVAL_FOR_ALL
from dustrun.core.values.addresses import checksum
from dustrun.core.values.amounts import MAX_UINT256, Asset
from dustrun.records import dataclass

Kind = Literal["erc20", "collection", "permit2"]
_READS: Final = {
    "erc20": parse_function("allowance(address,address) view returns (uint256)"),
    "collection": parse_function("isApprovedForAll(address,address) view returns (bool)"),
    "permit2": parse_function("allowance(address,address,address) view returns (uint160,uint48,uint48)"),
}
_REVOKES: Final = {
    "erc20": parse_function("approve(address spender, uint256 amount) returns (bool)"),
    "collection": parse_function("setApprovalForAll(address operator, bool approved)"),
    "permit2": parse_function("approve(address token, address spender, uint160 amount, uint48 expiration)"),
}
_ZERO: Final = bytes(32)


@dataclass(frozen=True, slots=True)
class AllowanceState:
    """An allowance as a word of the chain says it: base units (MAX_UINT256 for a whole collection), and for Permit2
    the time in seconds at which it ends."""

    units: int
    expires_at_s: int | None = None


@dataclass(frozen=True, slots=True, order=True)
class Allowance:
    """Who may take which token of a wallet. Addresses are checksummed."""

    chain_id: int
    kind: Kind
    token: str
    spender: str

    @property
    def contract(self) -> str:
        """The contract that records it."""
        return PERMIT2 if self.kind == "permit2" else self.token

    @property
    def asset(self) -> Asset:
        """The token as an asset."""
        return Asset(self.chain_id, self.token)

    def read_call(self, owner: str) -> bytes:
        """Calldata that reads it from `contract`."""
        parties = (owner, self.token, self.spender) if self.kind == "permit2" else (owner, self.spender)
        return _READS[self.kind].encode(*parties)

    def read(self, data: bytes, now_s: int) -> AllowanceState | None:
        """The allowance in the return data; None if the contract does not answer as it should. An expired one is 0."""
        if len(data) < (96 if self.kind == "permit2" else 32):
            return None
        units = int.from_bytes(data[:32])
        if self.kind == "collection":
            return AllowanceState(MAX_UINT256 if units else 0)
        if self.kind == "erc20":
            return AllowanceState(units)
        expires = int.from_bytes(data[32:64])
        return AllowanceState(units if expires > now_s else 0, expires)

    def revocation(self, item: str) -> Intent:
        """The intent that sets it to zero."""
        function = _REVOKES[self.kind]
        values: dict[str, tuple[Any, ...]] = {
            "erc20": (self.spender, 0),
            "collection": (self.spender, False),
            "permit2": (self.token, self.spender, 0, 0),
        }
        where = " through Permit2" if self.kind == "permit2" else ""
        return Intent(
            item=item,
            chain_id=self.chain_id,
            to=self.contract,
            value_units=0,
            data=function.encode(*values[self.kind]),
            movements=(Movement("approve", self.asset, 0, self.spender),),
            about=f"Revoke what {self.spender} may take of {self.token}{where}",
            method=function.signature,
        )


def of_entries(entries: Iterable[tuple[int, str, str, str]]) -> Iterator[Allowance]:
    """Allowances of ledger entries: chain, asset, spender and the contract that records each."""
    for chain_id, asset, spender, contract in entries:
        collection = asset.partition("/erc721:")[2]
        if collection:
            yield Allowance(chain_id, "collection", collection, spender)
        elif Asset.is_key(asset):
            token = Asset.parse(asset).token or ""
            yield Allowance(chain_id, "permit2" if contract == PERMIT2 else "erc20", checksum(token), spender)


def of_transaction(
    owner: str, chain_id: int, movements: Sequence[Mapping[str, Any]], to: str | None, logs: Sequence[Log]
) -> Iterator[Allowance]:
    """Allowances that a transaction gives by its declared movements and its events."""
    for movement in movements:
        if movement["kind"] == "approve" and Asset.is_key(movement["asset"]):
            token, who = Asset.parse(movement["asset"]).token, checksum(movement["counterparty"])
            if token is not None:
                kind: Kind = "permit2" if to is not None and checksum(to) == PERMIT2 else "erc20"
                yield Allowance(chain_id, kind, checksum(token), who)
    for log in logs:
        given = ((asset, who, log.address) for of, asset, who, _ in allowances_in(chain_id, log) if of == owner)
        yield from of_entries((chain_id, *one) for one in given)


def is_revocation(to: str | None, value_units: int, data: bytes) -> bool:
    """Whether a call does no more than set one allowance to zero, by its calldata. An ERC-721's `approve` of token 0
    looks the same, so a simulation has to show that nothing is given."""
    if to is None or value_units:
        return False
    selector, words = selector_of(data), data[4:]
    if selector in (APPROVE, SET_APPROVAL_FOR_ALL):
        return len(words) == 64 and words[32:] == _ZERO
    return selector == PERMIT2_APPROVE and checksum(to) == PERMIT2 and len(words) == 128 and words[64:96] == _ZERO
