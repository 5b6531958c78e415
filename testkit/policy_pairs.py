"""Random pairs of policies with spends between them: a policy that is not looser lets nothing more through.

The second policy of a pair is mostly a change of the first, so that about half of the pairs are no loosening.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

from dustrun.core.evm.abi_signatures import parse_function
from dustrun.core.money.intent import Movement, SignRequest
from dustrun.core.money.policy import (
    Allow,
    Ask,
    PolicyRequest,
    VerdictFacts,
    WalletPolicy,
    Worth,
    is_looser,
    judge,
    needs,
)
from dustrun.core.money.policy.counting import USD_UNIT, Origin
from dustrun.core.money.policy.outflow import Ceilings, RaisedAllowance, TakenAmounts, judge_outflow
from dustrun.core.money.policy.scope import find_unproven
from dustrun.core.money.policy.sources_rule import MONEY
from dustrun.core.money.token_calls import implied_movements
from dustrun.core.values.addresses import checksum
from dustrun.core.values.amounts import MAX_UINT256, Asset

Json = dict[str, Any]
BOB, EVE, ROUTER, VAULT, TOKEN, ME = (checksum("0x" + digits * 20) for digits in ("b0", "e5", "70", "7a", "c3", "a1"))
COIN, USDC = Asset(1), Asset(1, TOKEN)
HOUR: Final = 3_600_000
_WINDOWS: Final = (HOUR, 24 * HOUR, 30 * 24 * HOUR)
_TRANSFER, _APPROVE = "transfer(address to, uint256 amount)", "approve(address spender, uint256 amount)"
_METHODS: Final = ("*", "deposit(uint256)", "0xb6b55f25", "give(address,uint256)", "transfer(address,uint256)",
                   "approve(address,uint256)", "multicall(bytes[])", "withdraw(uint256)", "note(bytes32)")  # fmt: skip
_RULES: Final = (
    (_TRANSFER, "amount < 50"),
    (_TRANSFER, "to != wallet"),
    (_APPROVE, "amount <= 100"),
    ("give(address to, uint256 amount)", "to == wallet"),
    ("give(address to, uint256 amount)", "amount == 1"),
    ("deposit(uint256 amount)", "amount < 50"),
    ("note(bytes32 hash)", "true"),
)
_ACCOUNTS: Final = ("*", BOB, EVE, ROUTER, VAULT, f"eip155:1:{BOB}", "eip155:10:*", "eip155:1:*")
_FLAGS: Final = ("allowDeploy", "allowUnlimitedApprovals", "allowUnverifiedCalldata", "allowUnpricedAssets")


def policy(rng: random.Random) -> Json:
    """A document."""
    made: Json = {
        "chains": _some(rng, [1, 10, "*"], 0.8),
        "assets": _some(rng, ["*", "eip155:1/*", COIN.key, USDC.key], 0.8),
        "recipients": _some(rng, _ACCOUNTS, 0.8),
        "contracts": _some(rng, _ACCOUNTS, 0.8),
        "methods": [*_some(rng, _METHODS, 0.8), *({"method": m, "where": w} for m, w in _some(rng, _RULES, 0.5))],
        "limits": [_limit(rng) for _ in range(rng.choice((0, 0, 1, 2)))],
        "gas": [_gas(rng) for _ in range(rng.choice((0, 0, 1)))],
        "outflow": rng.choice((None, {}, _outflow(rng))),
        "approvalAbove": rng.choice((None, None, {"usd": str(rng.randrange(9))}, {"assets": {USDC.key: "40"}})),
        "feeAboveUsual": rng.choice((None, None, 1, 5)),
        "signatures": {"messages": rng.random() < 0.3, "typedData": rng.choice(("none", "known", "known", "any"))},
        "newRecipientHours": rng.choice((0, 0, 0, 1, 2)),
    }
    return made | {flag: rng.random() < 0.4 for flag in _FLAGS}


def changed(rng: random.Random, old: Json) -> Json:
    """A document with one to three statements changed: entries dropped, swapped or added, values moved."""
    fresh, made = policy(rng), dict(old)
    if "sources" in old:
        fresh["sources"] = _sources(rng)
    for name in rng.sample(sorted(old), rng.choice((1, 1, 2, 3))):
        value = old[name]
        if isinstance(value, list) and value and rng.random() < 0.7:
            made[name] = [entry for entry in value if rng.random() < 0.6]
        elif isinstance(value, list) and rng.random() < 0.5:
            made[name] = [*value, *fresh[name]]
        else:
            made[name] = fresh[name]
    return made


def naming(rng: random.Random, old: Json) -> tuple[Json, Json]:
    """A document that allows much, and one that names more: what a star covered before, so that names only vouch."""
    names = {"contracts": _ACCOUNTS[1:6], "assets": (USDC.key, COIN.key)}
    opened = old | {"chains": ["*"], "recipients": ["*"], "methods": [], "limits": [], "gas": [], "outflow": None,
                    "contracts": ["*", *_some(rng, names["contracts"], 0.3)], "assets": ["*"],
                    "approvalAbove": None, "allowUnpricedAssets": True, "newRecipientHours": 0}  # fmt: skip
    name = rng.choice(("contracts", "assets"))
    return opened, opened | {name: [*opened[name], *_some(rng, names[name], 1)][rng.randrange(2) :]}


def _some(rng: random.Random, values: Any, share: float) -> list[Any]:
    return rng.sample(list(values), rng.randint(1, min(3, len(values)))) if rng.random() < share else []


def _limit(rng: random.Random) -> Json:
    made = _plain_limit(rng)
    if "maxGasUsd" in made or rng.random() < 0.5:
        return made
    if rng.random() < 0.3:
        return {name: value for name, value in made.items() if name != "windowMs"} | {"per": "run"}
    if rng.random() < 0.3 and "windowMs" in made:
        return made | {"per": rng.choice(("workflow", "key", "recipient"))}
    of = {"contracts": [ROUTER, VAULT], "methods": ["give(address,uint256)"], "recipients": [BOB], "assets": [USDC.key],
          "workflows": ["wf_1"], "keys": ["key_1"]}  # fmt: skip
    return made | {"of": {name: of[name] for name in _some(rng, sorted(of), 1)[:2]}}


def _plain_limit(rng: random.Random) -> Json:
    window = {} if rng.random() < 0.4 else {"windowMs": rng.choice(_WINDOWS)}
    kind = rng.randrange(4)
    if kind == 0:
        return {"asset": rng.choice((COIN.key, USDC.key)), "maxUnits": str(rng.randrange(200)), **window}
    if kind == 1:
        return {"maxCount": rng.randrange(4), "windowMs": rng.choice(_WINDOWS)}
    return {"maxUsd" if kind == 2 else "maxGasUsd": str(Decimal(rng.randrange(40)) / 4), **window}


def _gas(rng: random.Random) -> Json:
    chain = {} if rng.random() < 0.5 else {"chainId": rng.choice((1, 10))}
    return chain | rng.choice(({"maxGas": rng.randrange(60_000)}, {"maxGasUsd": "1"}, {"maxFeePerGas": "9"}))


def _outflow(rng: random.Random) -> Json:
    return {
        "assets": {key: str(rng.randrange(100)) for key in _some(rng, [COIN.key, USDC.key], 0.5)},
        "maxUsd": rng.choice((None, str(rng.randrange(8)))),
        "beyondDeclared": rng.random() < 0.4,
        "allowancesBeyondDeclared": rng.random() < 0.4,
        "unsimulated": rng.choice(("deny", "declared")),
    }


def _sources(rng: random.Random) -> Json | None:
    return {money: _source(rng) for money in MONEY if rng.random() < 0.5} if rng.random() < 0.7 else None


def _source(rng: random.Random) -> Json:
    allowed = _some(rng, ("chain", "chain", "contract:*", f"contract:1/{VAULT}", "price"), 0.7)
    return {"allow": allowed, "otherwise": rng.choice(("ask", "ask", "deny"))}


def _shaped(rng: random.Random) -> dict[str, frozenset[str]] | None:
    """What shapes a spend: answers of contracts, and other systems."""
    known = [f"contract:{chain}/{who}" for chain in (1, 10) for who in (VAULT, TOKEN, ROUTER, BOB)]
    return {rng.choice(MONEY): frozenset({rng.choice((*known, "price"))})} if rng.random() < 0.6 else None


def spends(rng: random.Random) -> Iterator[tuple[PolicyRequest, TakenAmounts]]:
    """Spends of many kinds, and what each is found to take."""
    units, who = rng.choice((1, 40, 60, 120, MAX_UINT256)), rng.choice((BOB, EVE, ME))
    contract = rng.choice((ROUTER, VAULT, BOB))
    inner = _encode(rng.choice(("give(address,uint256)", "transfer(address,uint256)")), who, units % 200)
    calls = [
        (contract, "give(address,uint256)", _encode("give(address,uint256)", who, 1)),
        (contract, "deposit(uint256)", _encode("deposit(uint256)", rng.choice((5, 60, 2**200)))),
        (contract, "note(bytes32)", _encode("note(bytes32)", rng.choice(("0x" + "ab" * 32, "0x" + "00" * 32)))),
        (TOKEN, "transfer(address,uint256)", _encode("transfer(address,uint256)", who, units)),
        (TOKEN, "approve(address,uint256)", _encode("approve(address,uint256)", contract, units)),
        (contract, "multicall(bytes[])", _encode("multicall(bytes[])", [f"0x{inner.hex()}"])),
        (contract, "withdraw(uint256)", _encode("withdraw(uint256)", 5)),
    ]
    for to, method, data in calls:
        moved = tuple(implied_movements(1, to, data))
        made = PolicyRequest("transaction", 1, to, 0, data, moved, method, rng.random() < 0.8, 21_000, sender=ME)
        fee = rng.choice((0, 9, 10, 10**10))
        yield replace(made, max_fee_units=fee, usual_fee_units=rng.choice((0, 50_000))), _taken(rng, moved)
    coins = Movement("send", COIN, units % 10**18, who)
    yield (
        PolicyRequest("transaction", rng.choice((1, 1, 10)), who, units % 10**18, b"", (coins,), sender=ME),
        TakenAmounts(),
    )
    yield PolicyRequest("transaction", 1, None, 0, b"\x60", (), sender=ME), TakenAmounts()
    permitted = (Movement("approve", USDC, units, contract),)
    for kind, movements in (("typed-data", permitted), ("typed-data", ()), ("message", ())):
        asked = SignRequest("sign", kind, 1, {}, movements, "", is_decoded=bool(movements))  # type: ignore[arg-type]
        yield PolicyRequest.of_signature(asked, ME), TakenAmounts()


def _encode(signature: str, *values: Any) -> bytes:
    return parse_function(signature).encode(*values)


def _taken(rng: random.Random, moved: tuple[Movement, ...]) -> TakenAmounts:
    sent = {one.asset.key: one.amount_units for one in moved if one.kind == "send"}
    more = rng.choice(({}, {}, {USDC.key: rng.randrange(150)}, {COIN.key: 5}))
    raised = (RaisedAllowance(TOKEN, ROUTER, 0, 50),) if rng.random() < 0.2 else ()
    return TakenAmounts({**sent, **more}, raised)


def world(rng: random.Random, request: PolicyRequest, *policies: WalletPolicy) -> VerdictFacts:
    """Prices and what was spent, the same for both policies; a longer window and a wider scope hold no less."""
    prices = {COIN.key: Worth(Decimal(rng.choice((1, 2500))), 18), USDC.key: Worth(Decimal(1), rng.choice((0, 1, 6)))}
    worths = {key: worth for key, worth in prices.items() if rng.random() < 0.85}
    spent: dict[tuple[str, int], int] = {}
    wanted = {need for one in policies for need in needs(one, request)}
    for need in sorted(wanted, key=lambda need: ("@" not in need[0], need)):  # whole counts last
        base = need[0].partition("@")[0]
        unit = USD_UNIT // 4 if "sd" in base else 1
        parts = [units for (one, window), units in spent.items() if window <= need[1] and _is_part(one, need[0])]
        spent[need] = max([rng.choice((0, 0, 1, 5, 30)) * unit, *parts])
    seen = {who.lower(): rng.choice((0, HOUR, 3 * HOUR)) for who in (BOB, EVE, ROUTER, VAULT) if rng.random() < 0.8}
    return VerdictFacts(3 * HOUR, worths, spent, seen, is_approved=rng.random() < 0.2)


def _is_part(measure: str, whole: str) -> bool:
    return measure == whole or ("@" not in whole and measure.partition("@")[0] == whole)


def rank(policy: WalletPolicy, request: PolicyRequest, taken: TakenAmounts, facts: VerdictFacts) -> int:
    """How far a spend comes: 0 denied, 1 a person is asked, 2 signed."""
    verdict = judge(policy, request, facts)
    if not isinstance(verdict, Allow | Ask):
        return 0
    ceilings = Ceilings(policy.outflow, None, find_unproven(policy, request))
    is_bounded = not ceilings or not judge_outflow(ceilings, taken, request.movements, facts.worths)
    return (2 if isinstance(verdict, Allow) else 1) if is_bounded else 0


def check_pair(rng: random.Random) -> tuple[bool, str | None]:
    """Whether the second policy of a random pair is looser, and what passes although it is not; None if nothing."""
    old = policy(rng) | {"sources": _sources(rng)}
    if (kind := rng.random()) < 0.2:
        old, new = naming(rng, old)
    else:
        new = changed(rng, old) if kind < 0.9 else policy(rng)
    before, after = WalletPolicy.model_validate(old), WalletPolicy.model_validate(new)
    if is_looser(before, after):
        return True, None
    for plain, taken in spends(rng):
        origin = Origin(rng.choice((None, "wf_1", "wf_2")), rng.choice((None, "run_1")), rng.choice(("key_1", "key_2")))
        request = replace(plain, origin=origin, shaped=_shaped(rng))
        facts = world(rng, request, before, after)
        ranks = rank(before, request, taken, facts), rank(after, request, taken, facts)
        if ranks[1] > ranks[0]:
            return False, f"{ranks} for {request.method or request.kind} to {request.to}: {old} -> {new}"
    return False, None
