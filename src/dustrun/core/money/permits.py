"""Powers that a signature of well-known typed data gives others: permits, transfers by authorization, orders.

Types are matched exactly, not by name: a document whose types differ in one field is not recognised. Standards with
fixed addresses (Permit2, the exchanges) are recognised only with those verifying contracts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from dustrun.core.evm.typed_data import written_type
from dustrun.core.money.intent import Movement
from dustrun.core.values.addresses import ZERO_ADDRESS, read_address
from dustrun.core.values.amounts import MAX_UINT256, Asset
from dustrun.records import dataclass

# https://eips.ethereum.org/EIPS/eip-2612, eip-3009; https://github.com/Uniswap/permit2;
# https://docs.cow.fi; https://github.com/ProjectOpenSea/seaport; https://github.com/1inch/limit-order-protocol
PERMIT2: Final = "0x000000000022D473030F116dDEE9F6B43aC78BA3"
_COW: Final = ("0x9008D19f58AAbD9eD0D60971565AA8510560ab41",)
_ONE_INCH: Final = ("0x111111125421cA6dc452d289314280a0f8842A65",)
_SEAPORT: Final = ("0x00000000000000ADc04C56Bf30aC9d3c0aAF14dC", "0x0000000000000068F116a894984e2DB1123eB395")


@dataclass(frozen=True, slots=True)
class Understood:
    """The powers that a document of a known type gives others. `signer` is the address that must sign it, None when the
    document does not say; `about` is a one-line description.
    """

    movements: tuple[Movement, ...]
    signer: str | None
    about: str


@dataclass(frozen=True, slots=True)
class _Document:
    chain_id: int
    contract: str
    message: Mapping[str, Any]
    wallet: str

    def receiver(self, named: str) -> str:
        """Who gets what an order buys: the zero address means the order's maker."""
        return self.wallet if named == ZERO_ADDRESS else named

    def asset(self, token: Any) -> Asset:
        """A token on the document's chain."""
        return Asset(self.chain_id, read_address(token))

    def own(self) -> Asset:
        """The verifying contract as a token."""
        return Asset(self.chain_id, self.contract)


_Reader = Callable[[_Document], Understood]


def understand(document: Mapping[str, Any], wallet: str) -> Understood | None:
    """What a valid document (one that `typed_data.digest_of` accepts) lets others move if `wallet` signs it; None for
    an unknown type, or a domain without chain and contract.
    """
    domain = document["domain"]
    if "chainId" not in domain or "verifyingContract" not in domain:
        return None
    text = written_type(document)
    reader, contracts = _KNOWN.get(text, (None, None))
    if reader is None and text.startswith(_WITNESS) and _PERMISSIONS in text:
        reader, contracts = _transfers, (PERMIT2,)
    contract = read_address(domain["verifyingContract"])
    if reader is None or (contracts is not None and contract not in contracts):
        return None
    return reader(_Document(_number(domain["chainId"]), contract, document["message"], read_address(wallet)))


def _number(value: Any) -> int:
    return int(value, 16) if isinstance(value, str) and value.startswith("0x") else int(value)


def _permit(document: _Document) -> Understood:
    message = document.message
    spender = read_address(message["spender"])
    allow = Movement("approve", document.own(), _number(message["value"]), spender)
    return Understood((allow,), read_address(message["owner"]), f"Let {spender} spend the token {document.contract}")


def _dai_permit(document: _Document) -> Understood:
    message = document.message
    spender = read_address(message["spender"])
    allow = Movement("approve", document.own(), MAX_UINT256 if message["allowed"] else 0, spender)
    return Understood((allow,), read_address(message["holder"]), f"Let {spender} spend the token {document.contract}")


def _authorization(document: _Document) -> Understood:
    message = document.message
    to = read_address(message["to"])
    send = Movement("send", document.own(), _number(message["value"]), to)
    return Understood((send,), read_address(message["from"]), f"Transfer of the token {document.contract} to {to}")


def _cancelled(document: _Document) -> Understood:
    return Understood((), read_address(document.message["authorizer"]), "Cancel an authorization")


def _allowances(document: _Document) -> Understood:
    """PermitSingle and PermitBatch: Permit2 allowances."""
    details = document.message["details"]
    return _by_permit2(document, details if isinstance(details, list) else [details])


def _transfers(document: _Document) -> Understood:
    """PermitTransferFrom, its batch, and both with a witness: a single transfer by the spender, up to the amount."""
    permitted = document.message["permitted"]
    return _by_permit2(document, permitted if isinstance(permitted, list) else [permitted])


def _by_permit2(document: _Document, items: Sequence[Mapping[str, Any]]) -> Understood:
    spender = read_address(document.message["spender"])
    moves = [Movement("approve", document.asset(item["token"]), _number(item["amount"]), spender) for item in items]
    return Understood(tuple(moves), None, f"Let {spender} spend {len(moves)} token(s) through Permit2")


def _cow_order(document: _Document) -> Understood:
    message = document.message
    receiver = read_address(message["receiver"])
    amount = _number(message["sellAmount"]) + _number(message["feeAmount"])
    send = Movement("send", document.asset(message["sellToken"]), amount, document.receiver(receiver))
    return Understood((send,), None, f"CoW order: sell {amount} of {message['sellToken']}")


def _one_inch_order(document: _Document) -> Understood:
    message = document.message
    receiver = read_address(message["receiver"])
    amount = _number(message["makingAmount"])
    send = Movement("send", document.asset(message["makerAsset"]), amount, document.receiver(receiver))
    about = f"1inch order: sell {amount} of {message['makerAsset']}"
    return Understood((send,), read_address(message["maker"]), about)


def _seaport_order(document: _Document) -> Understood:
    message = document.message
    offer = message["offer"]
    recipients = {read_address(item["recipient"]) for item in message["consideration"]}
    to = document.wallet if recipients == {document.wallet} else document.contract
    moves = [
        Movement(
            "send",
            Asset(document.chain_id, None if _number(item["itemType"]) == 0 else read_address(item["token"])),
            max(_number(item["startAmount"]), _number(item["endAmount"])),
            to,
        )
        for item in offer
    ]
    about = f"Seaport order: offer {len(moves)} item(s)"
    return Understood(tuple(moves), read_address(message["offerer"]), about)


_PERMISSIONS: Final = "TokenPermissions(address token,uint256 amount)"
_DETAILS: Final = "PermitDetails(address token,uint160 amount,uint48 expiration,uint48 nonce)"
_TAIL: Final = "address spender,uint256 nonce,uint256 deadline"
_AUTHORIZED: Final = "(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
_WITNESS: Final = (
    f"PermitWitnessTransferFrom(TokenPermissions permitted,{_TAIL},",
    f"PermitBatchWitnessTransferFrom(TokenPermissions[] permitted,{_TAIL},",
)
_COW_ORDER: Final = (
    "Order(address sellToken,address buyToken,address receiver,uint256 sellAmount,uint256 buyAmount,uint32 validTo,"
    "bytes32 appData,uint256 feeAmount,string kind,bool partiallyFillable,string sellTokenBalance,"
    "string buyTokenBalance)"
)
_ONE_INCH_ORDER: Final = (
    "Order(uint256 salt,address maker,address receiver,address makerAsset,address takerAsset,uint256 makingAmount,"
    "uint256 takingAmount,uint256 makerTraits)"
)
_SEAPORT_ORDER: Final = (
    "OrderComponents(address offerer,address zone,OfferItem[] offer,ConsiderationItem[] consideration,"
    "uint8 orderType,uint256 startTime,uint256 endTime,bytes32 zoneHash,uint256 salt,bytes32 conduitKey,"
    "uint256 counter)"
    "ConsiderationItem(uint8 itemType,address token,uint256 identifierOrCriteria,uint256 startAmount,"
    "uint256 endAmount,address recipient)"
    "OfferItem(uint8 itemType,address token,uint256 identifierOrCriteria,uint256 startAmount,uint256 endAmount)"
)
_KNOWN: Final[Mapping[str, tuple[_Reader, tuple[str, ...] | None]]] = {
    "Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)": (_permit, None),
    "Permit(address holder,address spender,uint256 nonce,uint256 expiry,bool allowed)": (_dai_permit, None),
    f"TransferWithAuthorization{_AUTHORIZED}": (_authorization, None),
    f"ReceiveWithAuthorization{_AUTHORIZED}": (_authorization, None),
    "CancelAuthorization(address authorizer,bytes32 nonce)": (_cancelled, None),
    f"PermitSingle(PermitDetails details,address spender,uint256 sigDeadline){_DETAILS}": (_allowances, (PERMIT2,)),
    f"PermitBatch(PermitDetails[] details,address spender,uint256 sigDeadline){_DETAILS}": (_allowances, (PERMIT2,)),
    f"PermitTransferFrom(TokenPermissions permitted,{_TAIL}){_PERMISSIONS}": (_transfers, (PERMIT2,)),
    f"PermitBatchTransferFrom(TokenPermissions[] permitted,{_TAIL}){_PERMISSIONS}": (_transfers, (PERMIT2,)),
    _COW_ORDER: (_cow_order, _COW),
    _ONE_INCH_ORDER: (_one_inch_order, _ONE_INCH),
    _SEAPORT_ORDER: (_seaport_order, _SEAPORT),
}
