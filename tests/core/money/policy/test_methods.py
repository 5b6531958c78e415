"""What `"*"` leaves out, and conditions on arguments."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytest
from eth_abi.abi import encode
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from core.money.policy.test_judge import BOB, COIN, EVE, ME, ROUTER, TOKEN, USDC, WORTHS, allows, deciding, rules
from core.money.test_inner_calls import batching, multicall
from dustrun.core.evm.abi import Param
from dustrun.core.evm.abi_signatures import parse_function
from dustrun.core.evm.calls import read_selector
from dustrun.core.money.intent import Movement
from dustrun.core.money.policy import Deny, PolicyRequest, VerdictFacts, WalletPolicy, is_looser, judge
from dustrun.core.money.policy.special_methods import Special, known_functions, special
from dustrun.core.money.token_calls import implied_movements, is_readable

LISTED = sorted(special().values(), key=lambda one: one.function.signature)
ZERO, ONE, TWO = (f"0x{number:040x}" for number in range(3))
WITHDRAW = "withdraw(address,uint256,address)"


def filled(param: Param, receiver: str, names: tuple[str, ...] | None = None) -> Any:
    """A value of a type; every address of the named parameters is `receiver`, others are the token."""
    return _filled(param, param.type, receiver, names)


def _filled(param: Param, kind: str, receiver: str, names: tuple[str, ...] | None) -> Any:
    if kind.endswith("]"):
        count = kind[kind.rindex("[") + 1 : -1]
        return [_filled(param, kind[: kind.rindex("[")], receiver, names)] * int(count or 1)
    if param.parts:
        return [filled(part, receiver, names) for part in param.parts]
    if kind.startswith("("):
        return [_filled(param, part, receiver, names) for part in kind[1:-1].split(",")]
    if kind == "address":
        return receiver if names is None or param.name in names else TOKEN
    plain = {"bool": True, "string": "", "bytes": "0x"}
    return plain.get(kind, f"0x{'00' * int(kind[5:])}" if kind.startswith("bytes") and kind != "bytes" else 1)


def request(data: bytes, method: str | None = None, *, value: int = 0, sender: str | None = ME) -> PolicyRequest:
    paid = (Movement("send", COIN, value, ROUTER),) if value else ()
    return PolicyRequest("transaction", 1, ROUTER, value, data, paid, method, sender=sender)


def call_of(one: Special, receiver: str) -> PolicyRequest:
    function = one.function
    values = [filled(param, receiver, one.receivers) for param in function.inputs]
    data = function.encode(*values)
    moved = tuple(implied_movements(1, ROUTER, data))
    return PolicyRequest("transaction", 1, ROUTER, 0, data, moved, function.signature, sender=ME)


OPEN = rules(allowUnlimitedApprovals=True, allowUnpricedAssets=True)


@pytest.mark.parametrize("one", LISTED, ids=lambda one: one.function.signature[:60])
def test_a_listed_method_needs_its_name_unless_the_wallet_gains(one: Special) -> None:
    assert one.source.startswith("https://")
    assert not is_readable(read_selector(one.function.signature))
    to_eve, to_me = call_of(one, EVE), call_of(one, ME)
    is_for_caller = one.kind == "giving" and one.receivers == ()
    assert allows(OPEN, to_eve) is is_for_caller
    assert allows(OPEN, to_me) is (one.kind == "giving" and one.receivers is not None)
    if not is_for_caller:
        assert deciding(OPEN, to_eve) == ["methods"]
        undecoded = PolicyRequest("transaction", 1, ROUTER, 0, to_eve.data, to_eve.movements, sender=ME)
        assert deciding(OPEN, undecoded) == ["methods"], "by the selector alone"
    named = rules(allowUnlimitedApprovals=True, allowUnpricedAssets=True, methods=["*", one.function.signature])
    assert allows(named, to_eve)
    assert (is_looser(OPEN, named), is_looser(named, OPEN)) == (not is_for_caller, False)


@pytest.mark.parametrize(
    ("signature", "values", "is_covered"),
    [
        ("executeAnything(bytes)", ["0x"], False),
        ("multiCallMany(bytes[])", [[]], False),
        ("grantAll(address)", [ME], False),
        ("setVaultOperator(address,bool)", [ME, True], False),
        ("withdrawEverything(address)", [EVE], False),
        ("withdrawEverything(address)", [ME], True),
        ("withdrawAll((address,uint256)[])", [[[ME, 1], [EVE, 2]]], False),
        ("withdrawAll((address,uint256)[])", [[[ME, 1], [ME, 2]]], True),
        ("sendSharesTo(address)", [EVE], False),
        ("burnEverything()", [], False),
        ("withdraw(uint256)", [5], True),
        ("redeem(uint256)", [5], True),
        ("claimRewards()", [], True),
    ],
)
def test_the_name_of_an_unlisted_method_can_only_deny(signature: str, values: list[Any], is_covered: bool) -> None:
    data = parse_function(signature).encode(*values)
    assert allows(rules(), request(data, signature)) is is_covered
    assert allows(rules(methods=[signature]), request(data, signature))
    is_always_covered = signature in ("withdraw(uint256)", "claimRewards()")
    assert is_looser(rules(), rules(methods=["*", signature])) is not is_always_covered


def test_a_listed_method_within_a_call_needs_its_name_too() -> None:
    give = parse_function("redeem(uint256,address,address)").encode(5, EVE, ME)
    assert deciding(rules(), request(multicall(give))) == ["methods"]
    keep = parse_function("redeem(uint256,address,address)").encode(5, ME, ME)
    assert allows(rules(), request(multicall(keep)))
    assert deciding(rules(), request(keep, sender=None)) == ["methods"], "nobody is the wallet"


def conditional(where: str, method: str = "withdraw(address asset, uint256 amount, address to)", **more: Any) -> Any:
    return rules(methods=[{"method": method, "where": where}], **more)


def withdraw(units: int = 5_000_000, to: str = ME, *, value: int = 0) -> PolicyRequest:
    return request(parse_function(WITHDRAW).encode(TOKEN, units, to), WITHDRAW, value=value)


@pytest.mark.parametrize("method", [WITHDRAW, "withdraw(address asset, uint amount, address to)"])
def test_a_condition_holds_for_the_arguments_it_names(method: str) -> None:
    policy = conditional("to == wallet && amount <= units('5', 6)", method)
    assert allows(policy, withdraw())
    assert deciding(policy, withdraw(5_000_001)) == ["methods"]
    assert deciding(policy, withdraw(to=EVE)) == ["methods"]
    verdict = judge(policy, withdraw(to=EVE), VerdictFacts(0, WORTHS))
    assert isinstance(verdict, Deny)
    assert verdict.reasons[0].message == (
        f'The condition "to == wallet && amount <= units(\'5\', 6)" on "{WITHDRAW}" does not hold.'
    )


def test_a_condition_reads_value_chain_positions_and_structs() -> None:
    assert allows(conditional("value == 0 && chain == 1 && args[2] == wallet && size(args) == 3"), withdraw())
    assert allows(conditional("value <= units('0.5', 18)"), withdraw(value=5 * 10**17))
    assert deciding(conditional("value < units('0.5', 18)"), withdraw(value=5 * 10**17)) == ["methods"]
    assert deciding(conditional("chain == 10"), withdraw()) == ["methods"]
    swap = "swap((address token, uint256[] units, bytes note) order, bool sure)"
    data = parse_function(swap).encode([TOKEN, [1, 2**255], "0xabcd"], True)
    holds = f"sure && order.token == '{TOKEN.lower()}' && order.units[1] == {2**255} && order.note == '0xabcd'"
    assert allows(conditional(holds, swap), request(data))


def test_an_address_is_the_same_in_any_case() -> None:
    for written in (EVE, EVE.lower(), "0x" + EVE[2:].upper()):
        assert deciding(conditional(f"to != '{written}'"), withdraw(to=EVE)) == ["methods"]
        assert allows(conditional(f"to in ['{written}']"), withdraw(to=EVE))


def test_a_named_condition_wins_over_the_star_and_one_of_several_is_enough() -> None:
    starred = rules(methods=["*", {"method": WITHDRAW, "where": "amount <= 5"}])
    assert deciding(starred, withdraw()) == ["methods"]
    several = rules(methods=[{"method": WITHDRAW, "where": where} for where in ("amount == 1", "amount == 2")])
    assert [allows(several, withdraw(units)) for units in (1, 2, 3)] == [True, True, False]
    assert deciding(several, withdraw(3)) == ["methods", "methods"]
    assert allows(rules(methods=[WITHDRAW, {"method": WITHDRAW, "where": "false"}]), withdraw())


def test_a_condition_on_a_token_method_holds_although_it_needs_no_entry() -> None:
    entry = {"method": "transfer(address to, uint256 amount)", "where": "to != wallet && amount < 10"}
    policy = rules(methods=[entry])
    for units, is_allowed in ((9, True), (10, False)):
        data = parse_function("transfer(address,uint256)").encode(BOB, units)
        pay = PolicyRequest("transaction", 1, TOKEN, 0, data, (Movement("send", USDC, units, BOB),), sender=ME)
        assert allows(policy, pay) is is_allowed
        within = request(batching("aggregate((address,bytes)[])", (TOKEN, data)))
        within = PolicyRequest("transaction", 1, ROUTER, 0, within.data, pay.movements, sender=ME)
        assert allows(rules(methods=["aggregate((address,bytes)[])", entry]), within) is is_allowed


def test_a_condition_within_a_call_sees_the_value_of_the_transaction() -> None:
    policy = rules(methods=["multicall(bytes[])", {"method": WITHDRAW, "where": "value == 0"}])
    inner = parse_function(WITHDRAW).encode(TOKEN, 1, ME)
    assert allows(policy, request(multicall(inner)))
    assert deciding(policy, request(multicall(inner), value=1)) == ["methods"]


@pytest.mark.parametrize(
    "data",
    [
        withdraw().data[:-1],
        withdraw().data + b"\0",
        withdraw().data[:4],
        withdraw().data[:36] + withdraw().data[36:68] + b"\x01" + withdraw().data[69:],
    ],
    ids=["cut off", "longer", "no arguments", "bits above the address"],
)
def test_calldata_in_another_form_is_not_evaluated(data: bytes) -> None:
    assert deciding(conditional("amount >= 0"), request(data)) == ["methods"]


def test_what_cannot_be_evaluated_denies() -> None:
    for where in ("amount / 0 == 1", "to + 1 == 2", "args[7] == wallet", "amount", "'true'", "to.name == 1", "!amount"):
        assert deciding(conditional(where), withdraw()) == ["methods"]
    nobodys = request(withdraw().data, sender=None)
    assert deciding(conditional("true"), nobodys) == ["methods"]


@pytest.mark.parametrize(
    ("method", "where", "says"),
    [
        ("*", "true", "whole signature"),
        ("0xa9059cbb", "true", "whole signature"),
        ("withdraw", "true", "whole signature"),
        (WITHDRAW, "nobody == wallet", '"nobody" is not known here'),
        ("grab(uint256,address)", "amount == 1", "Name the parameters"),
        (WITHDRAW, "to ==", "not an expression"),
        (WITHDRAW, "matches(to, '.*')", "cannot use matches()"),
        (WITHDRAW, "args.exists(a, a == wallet)", "cannot use exists()"),
        (WITHDRAW, "now() > 0", "now"),
        (WITHDRAW, "'a'.replace('a', 'b') == to", "cannot use replace()"),
        (WITHDRAW, "$run.id == to", "$run"),
        ("pay(uint256 value)", "value == 1", 'call the parameter "value" otherwise'),
        (WITHDRAW, "!" * 50 + "true", "nested deeper than 32"),
        (WITHDRAW, "true || " * 200 + "true", "1000"),
        (WITHDRAW, "", "1 character"),
    ],
)
def test_a_condition_that_could_never_be_evaluated_is_refused(method: str, where: str, says: str) -> None:
    with pytest.raises(ValidationError) as fault:
        conditional(where, method)
    assert says in str(fault.value)


def test_a_method_has_few_conditions() -> None:
    entries = [{"method": WITHDRAW, "where": f"amount == {number}"} for number in range(21)]
    rules(methods=entries[:20])
    with pytest.raises(ValidationError, match="at most 20 conditions"):
        rules(methods=entries)


def test_a_condition_is_stricter_than_the_method_alone() -> None:
    plain, small, smaller = rules(methods=[WITHDRAW]), conditional("amount < 5"), conditional("amount < 4")
    assert (is_looser(plain, small), is_looser(small, plain)) == (False, True)
    assert is_looser(small, smaller), "expressions are not compared, only their texts"
    assert not is_looser(small, small)
    assert is_looser(rules(), small), "the star alone does not allow it for others"
    assert WalletPolicy.model_validate(small.model_dump(by_alias=True)) == small


# --- swaps that leave their output behind ---


def _swap(payee: str, least: int = 7, out: str = TOKEN, name: str = "exactInputSingle") -> bytes:
    types = "(address,address,uint24,address,uint256,uint256,uint160)"
    selector = bytes.fromhex(read_selector(f"{name}({types})")[2:])
    return selector + encode([types], [(BOB, out, 500, payee, 9, least, 0)])


def _sweep(payee: str, least: int = 7, token: str = TOKEN) -> bytes:
    return parse_function("sweepToken(address,uint256,address)").encode(token, least, payee)


UNWRAP_MINE = parse_function("unwrapWETH9(uint256)").encode(7)


@pytest.mark.parametrize("payee", [ZERO, ONE, TWO, ROUTER], ids=["0x0", "0x1", "0x2", "router"])
def test_a_swap_to_nobody_needs_a_sweep_to_the_wallet(payee: str) -> None:
    path = encode(["uint256", "uint256", "address[]", "address", "uint256"], [9, 7, [BOB, TOKEN], payee, 99])
    v2 = bytes.fromhex(read_selector("swapExactTokensForTokens(uint256,uint256,address[],address,uint256)")[2:]) + path
    for swap in (_swap(payee), v2, _swap(payee, name="exactOutputSingle")):
        assert deciding(rules(recipients=[]), request(swap)) == ["recipients"]
        assert deciding(rules(recipients=[]), request(multicall(swap))) == ["recipients"]
    for rest, is_allowed in (
        ((_sweep(ME),), True),
        ((_sweep(ME, 8),), True),
        ((UNWRAP_MINE,), True),
        ((_sweep(ME, 6),), False),
        ((_sweep(EVE),), False),
        ((_sweep(payee),), False),
        ((_sweep(ME, token=BOB),), False),
    ):
        data = multicall(_swap(payee), *rest)
        assert allows(rules(recipients=[]), request(data)) is is_allowed, rest
    assert not allows(rules(recipients=[]), request(multicall(_sweep(ME), _swap(payee)))), "before it"
    assert not allows(rules(recipients=[]), request(multicall(_swap(payee, 0), _sweep(ME, 0)))), "at least nothing"
    assert allows(rules(recipients=[EVE]), request(multicall(_swap(payee), _sweep(EVE)))), "who may be paid"
    assert allows(rules(recipients=[]), request(_swap(ME)))


# --- any condition ---

_ATOMS = st.sampled_from(
    ["to", "wallet", "amount", "asset", "value", "chain", "args", "args[0]", "args[9]", "1", "0", "1.5", "null", "true",
     "false", "'0x'", "[]", "{}", "units('5', 6)", "size(args)", "min(amount, 3)", "bps(amount, 30)", "int", "-amount"]
)  # fmt: skip
_TEXTS = st.recursive(
    _ATOMS,
    lambda inner: st.one_of(
        st.tuples(
            inner, st.sampled_from(["==", "!=", "<", "<=", "+", "-", "*", "/", "%", "&&", "||", "??", "in"]), inner
        ).map(" ".join),
        inner.map("({})".format),
        inner.map("!{}".format),
        inner.map("[{}]".format),
        st.tuples(inner, inner, inner).map(lambda three: "({} ? {} : {})".format(*three)),
        inner.map("{}[0]".format),
        inner.map("{}.to".format),
    ),
    max_leaves=12,
)


@settings(max_examples=400, deadline=None)
@given(text=st.one_of(_TEXTS, st.text(max_size=60)), units=st.integers(0, 2**256 - 1), to=st.sampled_from([ME, EVE]))
def test_any_condition_allows_only_if_it_is_true_and_never_raises(text: str, units: int, to: str) -> None:
    try:
        policy = conditional(text)
    except ValidationError:
        return
    started = time.process_time()
    is_allowed = allows_at_all(policy, withdraw(units, to))
    assert time.process_time() - started < 1
    assert allows_at_all(conditional(f"!({text})"), withdraw(units, to)) + is_allowed <= 1


def allows_at_all(policy: WalletPolicy, asked: PolicyRequest) -> bool:
    return allows(policy, asked) if not isinstance(judge(policy, asked, VerdictFacts(0, WORTHS)), Deny) else False


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=200))
def test_any_calldata_is_allowed_only_as_it_would_be_encoded(data: bytes) -> None:
    raw = bytes.fromhex(read_selector(WITHDRAW)[2:]) + data
    if allows_at_all(conditional("amount >= 0"), request(raw)):
        function = parse_function(WITHDRAW)
        assert function.encode(*function.decode_args(raw)) == raw


def test_known_names_are_unique() -> None:
    found: Mapping[str, Any] = known_functions()
    assert len(found) >= 150
