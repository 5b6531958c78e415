"""The scope of a request: chains, assets, recipients, contracts, methods, signatures."""

from __future__ import annotations

from collections.abc import Iterator

from dustrun.core.evm.calls import read_selector, selector_of
from dustrun.core.money.allowances import is_revocation
from dustrun.core.money.intent import Movement
from dustrun.core.money.policy.counting import PolicyRequest, canonical, implied_of, is_same
from dustrun.core.money.policy.document import WalletPolicy
from dustrun.core.money.policy.matching import find_account, find_asset, names_chain
from dustrun.core.money.policy.methods import judge_conditions, judge_method, signature_of
from dustrun.core.money.policy.verdict import Reason
from dustrun.core.money.router_calls import is_router_method, unclaimed
from dustrun.core.money.token_calls import (
    OF_TOKENS,
    TRANSFER_FROM,
    InnerCall,
    Unread,
    implied_movement,
    inner_calls,
    is_readable,
)
from dustrun.core.values.amounts import Asset

REVOCATION_GAS = 300_000
"""Gas of a revocation that the policy's own lists do not allow: what it burns is bounded."""
_WIDTHS = (2**96 - 1, 2**128 - 1)


def find_unproven(policy: WalletPolicy | None, request: PolicyRequest) -> tuple[Reason, ...]:
    """Requests that a policy allows only if a simulation shows that nothing leaves the wallet."""
    if policy is not None and revokes(request) and any(_scope(policy, request, [])):
        return (Reason("revocation", "It sets an allowance to zero, which may give or take nothing."),)
    return ()


def judge_scope(policy: WalletPolicy, request: PolicyRequest, allowed: list[Reason]) -> Iterator[Reason]:
    """The denials by chains, assets, recipients, contracts and methods; what they allow is appended to `allowed`. To
    set an allowance to zero is in the scope of every policy."""
    own: list[Reason] = []
    denied = list(_scope(policy, request, own))
    if denied and revokes(request):
        if request.gas_limit > REVOCATION_GAS:
            message = f"The gas limit {request.gas_limit} is over {REVOCATION_GAS}, too much for setting an allowance."
            yield Reason("revocation", message)
        allowed.append(Reason("revocation", "To set an allowance to zero is always allowed."))
        return
    allowed += own
    yield from denied


def revokes(request: PolicyRequest) -> bool:
    """Whether a request does no more than set an allowance to zero, by its calldata."""
    moves = any(one.amount_units for one in request.movements)
    return request.kind == "transaction" and not moves and is_revocation(request.to, request.value_units, request.data)


def _scope(policy: WalletPolicy, request: PolicyRequest, allowed: list[Reason]) -> Iterator[Reason]:
    if request.chain_id is None:
        if request.kind != "message":
            yield Reason("chains", "The document does not name a chain, so it could be valid on any.")
    elif names_chain(policy.chains, request.chain_id):
        allowed.append(Reason("chains", f"Chain {request.chain_id} is allowed."))
    else:
        yield Reason("chains", f"Chain {request.chain_id} is not among the allowed chains.")
    yield from (
        _call(policy, request, allowed) if request.kind == "transaction" else _signature(policy, request, allowed)
    )
    for movement in request.movements:
        yield from _movement(policy, request, movement, allowed)


def _signature(policy: WalletPolicy, request: PolicyRequest, allowed: list[Reason]) -> Iterator[Reason]:
    rules = policy.signatures
    if request.kind == "message":
        if rules.messages:
            allowed.append(Reason("signatures.messages", "Messages may be signed."))
        else:
            yield Reason("signatures.messages", "Messages may not be signed; set signatures.messages to allow it.")
    elif rules.typed_data == "none":
        yield Reason("signatures.typedData", "Typed data may not be signed.")
    elif rules.typed_data == "known" and not (request.is_decoded and request.movements):
        message = "The typed data is neither a permit nor an order that can be decoded, so its effect is unknown."
        yield Reason("signatures.typedData", message)
    else:
        allowed.append(Reason("signatures.typedData", f"Typed data may be signed ({rules.typed_data})."))


def _call(policy: WalletPolicy, request: PolicyRequest, allowed: list[Reason]) -> Iterator[Reason]:
    yield from _undeclared(request)
    if request.to is None:
        if policy.allow_deploy:
            allowed.append(Reason("allowDeploy", "Contracts may be created."))
        else:
            yield Reason("allowDeploy", "Contracts may not be created.")
        return
    if not request.data:
        return
    selector = selector_of(request.data)
    if selector is None:
        yield Reason("methods", "The calldata has fewer than four bytes, so it names no method.")
        return
    if not request.is_decoded and not policy.allow_unverified_calldata:
        yield Reason("allowUnverifiedCalldata", "The calldata does not decode with a known ABI, so it is not verified.")
    if request.method is not None and not _is_named(request.method, selector):
        yield Reason("methods", f'The calldata begins with {selector}, which is not "{request.method}".')
    call = InnerCall(request.to, request.value_units, request.data)
    if _is_of_token(request, selector):
        yield from judge_conditions(policy, request, call, request.method)
        return
    method = request.method if _is_method(request.method, request.data) else None
    yield from _listed_call(policy, request, call, method, allowed)
    yield from _inner_calls(policy, request, request.to, allowed)
    yield from _router_payees(policy, request, request.to)


def _inner_calls(policy: WalletPolicy, request: PolicyRequest, to: str, allowed: list[Reason]) -> Iterator[Reason]:
    """Nested calls are judged like direct calls, except that no ABI of whoever wrote them decodes them."""
    try:
        inner = inner_calls(to, request.data)
    except Unread as fault:
        yield Reason("methods", f"The nested calls cannot be decoded: {fault}.")
        return
    for call in inner:
        selector = selector_of(call.data)
        if selector is None and call.data:
            yield Reason("methods", f"A nested call of {call.to} has fewer than four bytes, so it names no method.")
        elif selector is None:
            yield from _inner_payment(policy, request, call)
        elif _is_whole_token_call(call.data, call.value_units):
            yield from judge_conditions(policy, request, call, None)
        else:
            method = signature_of(policy, selector)
            if not (policy.allow_unverified_calldata or method or _is_known(request, call)):
                message = (
                    f"A nested call of {call.to} ({selector}) does not decode with a known ABI, so it is not verified."
                )
                yield Reason("allowUnverifiedCalldata", message)
            yield from _listed_call(policy, request, call, method, allowed)


def _is_known(request: PolicyRequest, call: InnerCall) -> bool:
    """Whether a call is of a method that Dustrun itself decodes."""
    selector = selector_of(call.data) or ""
    if is_readable(selector) or is_router_method(selector):
        return True
    return request.chain_id is not None and implied_movement(request.chain_id, call.to, call.data) is not None


def _inner_payment(policy: WalletPolicy, request: PolicyRequest, call: InnerCall) -> Iterator[Reason]:
    if call.value_units and find_account(policy.recipients, request.chain_id, call.to) is None:
        yield Reason("recipients", f"{call.to}, which a nested call pays, is not among the allowed recipients.")


def _router_payees(policy: WalletPolicy, request: PolicyRequest, to: str) -> Iterator[Reason]:
    """A swap's leftovers with the router or an empty address belong to whoever takes them first."""
    try:
        left = unclaimed(to, request.data, request.sender)
    except Unread as fault:
        yield Reason("recipients", f"The calls of the router cannot be decoded: {fault}.")
        return
    for use in left:
        if any(find_account(policy.recipients, request.chain_id, payee) is not None for payee in use.swept_to):
            continue
        message = (
            f"{use.method} pays {use.payee}, which is not the wallet, and no later call in the same transaction takes "
            "at least the promised amount from the router to the wallet."
        )
        yield Reason("recipients", message)


def _listed_call(
    policy: WalletPolicy,
    request: PolicyRequest,
    call: InnerCall,
    method: str | None,
    allowed: list[Reason],
) -> Iterator[Reason]:
    if find_account(policy.contracts, request.chain_id, call.to) is None:
        yield Reason("contracts", f"The contract {call.to} is not among the allowed contracts.")
    else:
        allowed.append(Reason("contracts", f"The contract {call.to} may be called."))
    yield from judge_method(policy, request, call, method, allowed)


def _is_method(method: str | None, data: bytes) -> bool:
    return method is not None and _is_named(method, selector_of(data) or "")


def _is_named(method: str, selector: str) -> bool:
    try:
        return read_selector(method) == selector
    except ValueError:
        return False


def _is_of_token(request: PolicyRequest, selector: str) -> bool:
    """Whether it is a token's own transfer or approval, complete and declared, so that asset and recipient rules judge
    it.
    """
    return request.to is not None and selector in OF_TOKENS and _is_whole_token_call(request.data, request.value_units)


def _is_whole_token_call(data: bytes, value_units: int) -> bool:
    return selector_of(data) in OF_TOKENS and len(data) == 68 and not value_units


def _undeclared(request: PolicyRequest) -> Iterator[Reason]:
    """Denies what the transaction moves beyond its declaration, which would be counted too low."""
    assert request.chain_id is not None
    declared = sum(
        movement.amount_units
        for movement in request.movements
        if movement.kind == "send" and movement.asset == Asset(request.chain_id)
    )
    if declared < request.value_units:
        message = f"It sends {request.value_units} base units of the native coin but declares {declared}."
        yield Reason("default", message)
    for implied in implied_of(request):
        may_be_piece = _may_be_piece(request, implied)
        if implied.amount_units and not any(_declares(one, implied, may_be_piece) for one in request.movements):
            message = (
                f"Its calldata moves {implied.amount_units} of {implied.asset.key} ({implied.kind}, "
                f"{implied.counterparty}), which it does not declare."
            )
            yield Reason("default", message)


def _may_be_piece(request: PolicyRequest, implied: Movement) -> bool:
    return selector_of(request.data) == TRANSFER_FROM and implied.kind == "send"


def _declares(movement: Movement, implied: Movement, may_be_piece: bool) -> bool:
    """Whether a movement is declared with its amount; for an ERC-721 the number may be a token id, and then that
    counts.
    """
    return (may_be_piece or movement.amount_units >= implied.amount_units) and is_same(movement, implied)


def _movement(
    policy: WalletPolicy, request: PolicyRequest, movement: Movement, allowed: list[Reason]
) -> Iterator[Reason]:
    key, who = canonical(movement.asset), movement.counterparty
    if request.chain_id is not None and movement.asset.chain_id != request.chain_id:
        yield Reason("chains", f"It moves {key}, which is not on chain {request.chain_id}.")
    entry = find_asset(policy.assets, movement.asset)
    if entry is None:
        yield Reason("assets", f"The asset {key} is not among the allowed assets.")
    else:
        allowed.append(Reason("assets", f"The asset {key} may be moved ({entry})."))
    if movement.kind == "approve":
        yield from _spender(policy, request, movement, allowed)
    elif request.kind == "transaction" and request.to is None:
        return  # value sent to a new contract is judged by allowDeploy
    elif find_account(policy.recipients, movement.asset.chain_id, who) is not None:
        allowed.append(Reason("recipients", f"{who} may be paid."))
    elif _is_own_order(request, movement):
        allowed.append(Reason("recipients", "The order pays the wallet itself."))
    elif not _is_paid_by_call(policy, request, movement):
        yield Reason("recipients", f"{who} is not among the allowed recipients.")


def _spender(
    policy: WalletPolicy, request: PolicyRequest, movement: Movement, allowed: list[Reason]
) -> Iterator[Reason]:
    if find_account(policy.contracts, movement.asset.chain_id, movement.counterparty) is None:
        yield Reason("contracts", f"The spender {movement.counterparty} is not among the allowed contracts.")
    else:
        allowed.append(Reason("contracts", f"{movement.counterparty} may be approved to spend."))


def _is_paid_by_call(policy: WalletPolicy, request: PolicyRequest, movement: Movement) -> bool:
    """Whether the value goes to the very contract of an allowed call (a router, a wrapper)."""
    if request.to is None or movement.counterparty.lower() != request.to.lower():
        return False
    if not request.data or selector_of(request.data) in OF_TOKENS:
        return False
    return find_account(policy.contracts, request.chain_id, request.to) is not None


def _is_own_order(request: PolicyRequest, movement: Movement) -> bool:
    """Whether a signed order has the wallet itself as receiver: what it gives away still counts in full."""
    is_wallet = request.sender is not None and movement.counterparty.lower() == request.sender.lower()
    return is_wallet and request.kind == "typed-data"


def is_endless(units: int) -> bool:
    """Whether an allowance is unlimited whatever it is of: the greatest number of a common integer width, or more."""
    return units in _WIDTHS or units >= _WIDTHS[-1]


def paid(policy: WalletPolicy, request: PolicyRequest) -> list[Movement]:
    """The sends to third parties, not into the called contract."""
    sends = (movement for movement in request.movements if movement.kind == "send")
    return [
        movement
        for movement in sends
        if not _is_paid_by_call(policy, request, movement) and not _is_own_order(request, movement)
    ]
