"""What signatures let others move, for the documents that wallets are asked to sign."""

from __future__ import annotations

from typing import Any

import pytest
from eth_account.messages import encode_typed_data

from dustrun.core.evm import typed_data
from dustrun.core.money import permits
from dustrun.core.money.intent import Movement
from dustrun.core.values.amounts import MAX_UINT256, Asset

OWNER = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
SPENDER = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"
TOKEN = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48"
OTHER = "0x6B175474E89094C44Da98b954EedeAC495271d0F"
ZERO = "0x" + "0" * 40
COW = "0x9008D19f58AAbD9eD0D60971565AA8510560ab41"
ONE_INCH = "0x111111125421cA6dc452d289314280a0f8842A65"
SEAPORT = "0x0000000000000068F116a894984e2DB1123eB395"


def fields(text: str) -> list[dict[str, str]]:
    pairs = (part.split() for part in text.split(","))
    return [{"name": name, "type": kind} for kind, name in pairs]


def document(contract: str, types: dict[str, str], message: dict[str, Any], **domain: Any) -> dict[str, Any]:
    return {
        "types": {name: fields(text) for name, text in types.items()},
        "primaryType": next(iter(types)),
        "domain": {"chainId": 1, "verifyingContract": contract, **domain},
        "message": message,
    }


PERMISSIONS = {"TokenPermissions": "address token,uint256 amount"}
DETAILS = {"PermitDetails": "address token,uint160 amount,uint48 expiration,uint48 nonce"}
TAIL = "address spender,uint256 nonce,uint256 deadline"
AUTHORIZED = "address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce"
ITEM = "uint8 itemType,address token,uint256 identifierOrCriteria,uint256 startAmount,uint256 endAmount"
NONCE = "0x" + "ab" * 32


def approve(amount: int, token: str = TOKEN) -> Movement:
    return Movement("approve", Asset(1, token), amount, SPENDER)


def send(amount: int, to: str, token: str | None = TOKEN) -> Movement:
    return Movement("send", Asset(1, token), amount, to)


def permitted(amount: Any, token: str = TOKEN) -> dict[str, Any]:
    return {"token": token, "amount": amount}


def detail(amount: Any, token: str = TOKEN) -> dict[str, Any]:
    return {"token": token, "amount": amount, "expiration": 1, "nonce": 0}


def item(kind: int, token: str, start: int, end: int) -> dict[str, Any]:
    return {"itemType": kind, "token": token, "identifierOrCriteria": 1, "startAmount": start, "endAmount": end}


KNOWN = {
    "eip2612": (
        document(
            TOKEN,
            {"Permit": "address owner,address spender,uint256 value,uint256 nonce,uint256 deadline"},
            {"owner": OWNER, "spender": SPENDER, "value": "0x10", "nonce": 0, "deadline": 1},
        ),
        (approve(16),),
        OWNER,
    ),
    "dai": (
        document(
            OTHER,
            {"Permit": "address holder,address spender,uint256 nonce,uint256 expiry,bool allowed"},
            {"holder": OWNER, "spender": SPENDER, "nonce": 0, "expiry": 0, "allowed": True},
        ),
        (approve(MAX_UINT256, OTHER),),
        OWNER,
    ),
    "eip3009": (
        document(
            TOKEN,
            {"TransferWithAuthorization": AUTHORIZED},
            {"from": OWNER, "to": SPENDER, "value": 5, "validAfter": 0, "validBefore": 1, "nonce": NONCE},
        ),
        (send(5, SPENDER),),
        OWNER,
    ),
    "eip3009-cancel": (
        document(
            TOKEN,
            {"CancelAuthorization": "address authorizer,bytes32 nonce"},
            {"authorizer": OWNER, "nonce": NONCE},
        ),
        (),
        OWNER,
    ),
    "permit2-single": (
        document(
            permits.PERMIT2,
            {"PermitSingle": "PermitDetails details,address spender,uint256 sigDeadline", **DETAILS},
            {"details": detail("7"), "spender": SPENDER, "sigDeadline": 1},
            name="Permit2",
        ),
        (approve(7),),
        None,
    ),
    "permit2-batch": (
        document(
            permits.PERMIT2,
            {"PermitBatch": "PermitDetails[] details,address spender,uint256 sigDeadline", **DETAILS},
            {"details": [detail(7), detail(8, OTHER)], "spender": SPENDER, "sigDeadline": 1},
        ),
        (approve(7), approve(8, OTHER)),
        None,
    ),
    "permit2-transfer": (
        document(
            permits.PERMIT2,
            {"PermitTransferFrom": f"TokenPermissions permitted,{TAIL}", **PERMISSIONS},
            {"permitted": permitted(9), "spender": SPENDER, "nonce": 0, "deadline": 1},
        ),
        (approve(9),),
        None,
    ),
    "permit2-batch-transfer": (
        document(
            permits.PERMIT2,
            {"PermitBatchTransferFrom": f"TokenPermissions[] permitted,{TAIL}", **PERMISSIONS},
            {"permitted": [permitted(9), permitted(3, OTHER)], "spender": SPENDER, "nonce": 0, "deadline": 1},
        ),
        (approve(9), approve(3, OTHER)),
        None,
    ),
    "permit2-witness": (
        document(
            permits.PERMIT2,
            {
                "PermitWitnessTransferFrom": f"TokenPermissions permitted,{TAIL},Order witness",
                **PERMISSIONS,
                "Order": "address maker",
            },
            {
                "permitted": permitted(9),
                "spender": SPENDER,
                "nonce": 0,
                "deadline": 1,
                "witness": {"maker": OWNER},
            },
        ),
        (approve(9),),
        None,
    ),
    "cow": (
        document(
            COW,
            {
                "Order": "address sellToken,address buyToken,address receiver,uint256 sellAmount,uint256 buyAmount,"
                "uint32 validTo,bytes32 appData,uint256 feeAmount,string kind,bool partiallyFillable,"
                "string sellTokenBalance,string buyTokenBalance"
            },
            {
                "sellToken": TOKEN,
                "buyToken": OTHER,
                "receiver": ZERO,
                "sellAmount": "100",
                "buyAmount": "99",
                "validTo": 1,
                "appData": NONCE,
                "feeAmount": "2",
                "kind": "sell",
                "partiallyFillable": False,
                "sellTokenBalance": "erc20",
                "buyTokenBalance": "erc20",
            },
        ),
        (send(102, OWNER),),
        None,
    ),
    "1inch": (
        document(
            ONE_INCH,
            {
                "Order": "uint256 salt,address maker,address receiver,address makerAsset,address takerAsset,"
                "uint256 makingAmount,uint256 takingAmount,uint256 makerTraits"
            },
            {
                "salt": 1,
                "maker": OWNER,
                "receiver": SPENDER,
                "makerAsset": TOKEN,
                "takerAsset": OTHER,
                "makingAmount": "50",
                "takingAmount": "49",
                "makerTraits": 0,
            },
        ),
        (send(50, SPENDER),),
        OWNER,
    ),
    "seaport": (
        document(
            SEAPORT,
            {
                "OrderComponents": "address offerer,address zone,OfferItem[] offer,ConsiderationItem[] consideration,"
                "uint8 orderType,uint256 startTime,uint256 endTime,bytes32 zoneHash,uint256 salt,bytes32 conduitKey,"
                "uint256 counter",
                "OfferItem": ITEM,
                "ConsiderationItem": f"{ITEM},address recipient",
            },
            {
                "offerer": OWNER,
                "zone": ZERO,
                "offer": [item(1, TOKEN, 5, 9), item(2, OTHER, 1, 1)],
                "consideration": [{**item(0, ZERO, 1, 1), "recipient": OWNER}],
                "orderType": 0,
                "startTime": 0,
                "endTime": 1,
                "zoneHash": NONCE,
                "salt": 1,
                "conduitKey": NONCE,
                "counter": 0,
            },
        ),
        (send(9, OWNER), send(1, OWNER, OTHER)),
        OWNER,
    ),
}


@pytest.mark.parametrize("name", KNOWN)
def test_a_known_document_says_what_it_moves(name: str) -> None:
    given, movements, signer = KNOWN[name]
    understood = permits.understand(given, OWNER)
    assert understood is not None
    assert (understood.movements, understood.signer) == (movements, signer)
    assert typed_data.digest_of(given) == digest_of_witness(given), "it is the document that others would sign"


def digest_of_witness(given: dict[str, Any]) -> bytes:
    from eth_account.messages import _hash_eip191_message

    return bytes(_hash_eip191_message(encode_typed_data(full_message=given)))


@pytest.mark.parametrize("name", [name for name in KNOWN if name.startswith(("permit2", "cow", "1inch", "seaport"))])
def test_another_contract_is_not_understood(name: str) -> None:
    given, _, _ = KNOWN[name]
    assert permits.understand({**given, "domain": {**given["domain"], "verifyingContract": SPENDER}}, OWNER) is None


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("left_out", ["chainId", "verifyingContract"])
def test_a_document_for_nobody_is_not_understood(name: str, left_out: str) -> None:
    given, _, _ = KNOWN[name]
    domain = {key: value for key, value in given["domain"].items() if key != left_out}
    assert permits.understand({**given, "domain": domain}, OWNER) is None


def test_an_order_of_items_that_pays_others_too_counts_as_paid_to_the_exchange() -> None:
    given, _, _ = KNOWN["seaport"]
    for recipients in ([], [SPENDER], [OWNER, SPENDER]):
        paid = [{**item(0, ZERO, 1, 1), "recipient": recipient} for recipient in recipients]
        message = {**given["message"], "consideration": paid}
        understood = permits.understand({**given, "message": message}, OWNER)
        assert understood is not None
        assert understood.movements == (send(9, SEAPORT), send(1, SEAPORT, OTHER))


def test_a_known_name_with_another_shape_is_not_understood() -> None:
    types = {"Permit": "address owner,address spender,uint256 value,uint256 nonce,uint256 deadline,uint256 more"}
    message = {"owner": OWNER, "spender": SPENDER, "value": 1, "nonce": 0, "deadline": 1, "more": 1}
    assert permits.understand(document(TOKEN, types, message), OWNER) is None


def test_a_witness_without_an_amount_is_not_understood() -> None:
    given, _, _ = KNOWN["permit2-witness"]
    types = {**given["types"], "TokenPermissions": fields("address token")}
    message = {**given["message"], "permitted": {"token": TOKEN}}
    assert permits.understand({**given, "types": types, "message": message}, OWNER) is None
