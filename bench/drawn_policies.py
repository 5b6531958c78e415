"""Policies of chance for random workflows, with edges where the spends of a simulation lie: a limit is just met or
just missed, a gas ceiling is the gas limit of a transaction or one less, a list lacks who is paid. Some ask, some
refuse, and often several of them speak of the same transaction.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from bench.chain_operations import STRANGERS, WALLETS
from bench.workflow_server import POLICY

Json = dict[str, Any]
_HOUR_MS = 3_600_000
_ELSEWHERE = "0x00000000000000000000000000000000000000e1"
_FIELDS = ("recipient", "amount", "asset", "calldata", "limits")
_ALLOWED = ("definition", "starter", "chain", "clock", "price", "run", "env", "workflow")


def draw_policies(
    draw: random.Random, report: Json, wallets: Mapping[str, str], unsteady: Collection[str] = ()
) -> dict[str, Json]:
    """A policy for each wallet id, by the report of a simulation that nothing refused. `unsteady`: contracts whose gas
    depends on the block; a wallet that calls one of them gets no ceiling on gas, which a later block might cross."""
    return {wallet: _Drawn(draw, report, address, unsteady).policy() for address, wallet in wallets.items()}


class _Drawn:
    """One wallet's policy. `_edge` is 0 where the spend still fits, and 1 where it is one too many."""

    def __init__(self, draw: random.Random, report: Json, address: str, unsteady: Collection[str]) -> None:
        self._draw = draw
        self._address = address
        self._unsteady = unsteady
        self._spends = [shown for shown in report["transactions"] if shown["from"] == address]
        self._moves = [move for shown in self._spends for move in shown["movements"] if "/erc721:" not in move["asset"]]
        self._policy: Json = {**POLICY, "limits": [], "gas": []}

    def policy(self) -> Json:
        """The wallet may do anything but what one to three statements forbid or ask about."""
        if self._spends:
            for rule in self._draw.sample(_RULES, self._draw.choice((1, 1, 2, 2, 3))):
                rule(self)
        return self._policy

    @property
    def _edge(self) -> int:
        return self._draw.randrange(2)

    def _move(self) -> Json | None:
        return self._draw.choice(self._moves) if self._moves else None

    # --- what refuses -------------------------------------------------------------------------------------------------

    def recipients(self) -> None:
        """One of those who are paid is not listed."""
        paid = {move["counterparty"] for move in self._moves} | {*WALLETS, *STRANGERS}
        self._without("recipients", sorted(paid), [move["counterparty"] for move in self._moves])

    def contracts(self) -> None:
        """One of those that are called is not listed."""
        called = [shown["to"] for shown in self._spends if shown["to"]]
        spenders = {move["counterparty"] for move in self._moves}
        self._without("contracts", sorted({*called, *spenders}), called)

    def assets(self) -> None:
        """One that is moved is not listed."""
        moved = [move["asset"] for move in self._moves]
        self._without("assets", sorted({*moved}), moved)

    def _without(self, name: str, known: Sequence[str], used: Sequence[str]) -> None:
        if used:
            left_out = self._draw.choice(used)
            self._policy[name] = [one for one in known if one.lower() != left_out.lower()] or [_only_here(name)]

    def most_at_once(self) -> None:
        """A limit per transaction."""
        move = self._move()
        if move is not None:
            self._limit({"asset": move["asset"], "maxUnits": _less(move["amount"], self._edge)})

    def most_in_a_run(self) -> None:
        """A limit that some of the payments of a token reach."""
        move = self._move()
        if move is not None:
            same = [int(one["amount"]) for one in self._moves if one["asset"] == move["asset"]]
            most = sum(same[: self._draw.randrange(1, len(same) + 1)])
            self._limit({"asset": move["asset"], "maxUnits": _less(most, self._edge), "per": "run"})

    def most_of_a_recipient(self) -> None:
        """A limit for each recipient, by transaction."""
        move = self._move()
        if move is not None:
            self._limit({"asset": move["asset"], "maxUnits": _less(move["amount"], self._edge), "per": "recipient"})

    def count(self) -> None:
        """So many transactions of a run."""
        self._limit({"maxCount": self._draw.randrange(len(self._spends) + 1), "per": "run"})

    def row(self) -> None:
        """One of several transactions of a node is refused, by its number in the run or by whom it pays."""
        nodes: dict[str, list[int]] = {}
        for place, shown in enumerate(self._spends):
            nodes.setdefault(shown["path"], []).append(place)
        places = [places for places in nodes.values() if len(places) > 1]
        if not places:
            return
        place = self._draw.choice(self._draw.choice(places))
        if self._draw.random() < 0.6:
            self._limit({"maxCount": place, "per": "run"})
            return
        paid = {move["counterparty"] for move in self._moves} | {*WALLETS, *STRANGERS}
        self._without("recipients", sorted(paid), [move["counterparty"] for move in self._spends[place]["movements"]])

    def dollars(self) -> None:
        """A limit in dollars, far from what prices that move could decide."""
        self._limit({"maxUsd": self._draw.choice(("0.001", "1", "40", "1000000"))})

    def _limit(self, limit: Json) -> None:
        self._policy["limits"].append(limit)

    def gas(self) -> None:
        """The gas limit of a transaction, or one less."""
        limits = [shown["gasLimit"] for shown in self._spends if shown.get("gasLimit")]
        if limits and not any(shown["to"] in self._unsteady for shown in self._spends):
            self._policy["gas"].append({"maxGas": max(0, self._draw.choice(limits) - self._edge)})

    def fee(self) -> None:
        """A price of gas that is never reached, or always too high."""
        self._policy["gas"].append({"maxFeePerGas": self._draw.choice(("1", str(10**15)))})

    def outflow(self) -> None:
        """What a transaction may take by balances: what is declared, or up to what one of them took."""
        lost = [
            (change["asset"], -int(change["amount"]))
            for shown in self._spends
            for change in shown["balanceChanges"]
            if change["address"] == self._address and int(change["amount"]) < 0 and "/erc721:" not in change["asset"]
        ]
        assets = [(asset, units) for asset, units in lost if "/erc1155:" not in asset]
        rule: Json = {
            "beyondDeclared": self._draw.random() < 0.5,
            "allowancesBeyondDeclared": self._draw.random() < 0.5,
        }
        if assets:
            asset, units = self._draw.choice(assets)
            rule["assets"] = {asset: _less(units, self._edge)}
        self._policy["outflow"] = rule

    def methods(self) -> None:
        """No calls of their own."""
        self._policy["methods"] = []

    def calldata(self) -> None:
        """Calldata that cannot be decoded, and deployments, are refused."""
        self._policy |= {"allowUnverifiedCalldata": False, "allowDeploy": False}

    # --- what asks ------------------------------------------------------------------------------------------------

    def ask_above(self) -> None:
        """Above an amount of a token in one transaction."""
        move = self._move()
        if move is not None:
            self._above["assets"] = {move["asset"]: _less(move["amount"], self._edge)}

    def ask_for_sums(self) -> None:
        """Above a sum of the node's or the run's."""
        move = self._move()
        if move is not None:
            total = {"per": self._draw.choice(("batch", "run")), "asset": move["asset"]}
            self._above["totals"] = [{**total, "units": _less(move["amount"], self._edge)}]

    def ask_about_sources(self) -> None:
        """What may shape a field is less than what does; sometimes that is refused."""
        rules = {}
        for name in self._draw.sample(_FIELDS, 2):
            allow = self._draw.sample(_ALLOWED, self._draw.randrange(len(_ALLOWED) + 1))
            rules[name] = {"allow": allow, "otherwise": "deny" if self._draw.random() < 0.15 else "ask"}
        self._policy["sources"] = rules

    @property
    def _above(self) -> Json:
        above: Json = self._policy.setdefault("approvalAbove", {})
        return above


def _less(units: int | str, by: int) -> str:
    return str(max(0, int(units) - by))


def _only_here(name: str) -> str:
    return "eip155:1/native" if name == "assets" else _ELSEWHERE


_RULES: tuple[Callable[[_Drawn], None], ...] = (
    _Drawn.recipients,
    _Drawn.recipients,
    _Drawn.contracts,
    _Drawn.assets,
    _Drawn.most_at_once,
    _Drawn.most_in_a_run,
    _Drawn.most_in_a_run,
    _Drawn.most_of_a_recipient,
    _Drawn.row,
    _Drawn.row,
    _Drawn.row,
    _Drawn.row,
    _Drawn.count,
    _Drawn.dollars,
    _Drawn.gas,
    _Drawn.gas,
    _Drawn.fee,
    _Drawn.outflow,
    _Drawn.outflow,
    _Drawn.methods,
    _Drawn.calldata,
    _Drawn.ask_above,
    _Drawn.ask_above,
    _Drawn.ask_for_sums,
    _Drawn.ask_about_sources,
    _Drawn.ask_about_sources,
)
