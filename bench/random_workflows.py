"""Random workflows of real actions for the proof of fidelity: what people build, and much that must fail.

Every step is one of `KINDS`; steps lie in a row, in branches of an `if`, and in loops. Inputs come from the trigger's
payload and from results of earlier steps. The steps are in `bench/random_steps.py`, calls of other workflows in
`bench/calling_workflows.py`.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from bench.chain_operations import STRANGERS, WALLETS, Maker
from bench.random_steps import KINDS, STEPS
from testkit.chain.anvil import CHAIN_ID
from testkit.chain.contracts import ETHER, Witness, World

Json = dict[str, Any]
ROOT = "root"


@dataclass
class Workflow:
    """A definition, the payload it is run with, and which kind each spending node is of, those of called workflows
    included. `calls` are the called ones by the node that calls; `shapes` counts what ties the steps together."""

    nodes: Json
    payload: Json
    kinds: dict[str, str]
    calls: dict[str, Workflow] = field(default_factory=dict)
    shapes: Counter[str] = field(default_factory=Counter)

    @property
    def depth(self) -> int:
        """How many calls lie one within the other."""
        return max((1 + called.depth for called in self.calls.values()), default=0)

    @property
    def all_shapes(self) -> Counter[str]:
        """Shapes, those of called ones included."""
        return sum((called.all_shapes for called in self.calls.values()), self.shapes.copy())

    def store(self, name: str, create: Callable[[str, Json], str]) -> str:
        """Creates the called ones, then itself; its id."""
        for node, called in self.calls.items():
            self.nodes[node]["payload"]["workflowId"] = called.store(f"{name}/{node}", create)
        return create(name, self.definition())

    def definition(self) -> Json:
        """As the API takes it."""
        return {"nodes": self.nodes, "triggerNodeIds": [ROOT]}


class Deck:
    """Deals all kinds in turn, shuffled, so that each comes as often as any other."""

    def __init__(self, draw: random.Random) -> None:
        self._draw = draw
        self._left: list[str] = []

    def deal(self) -> str:
        """The next kind."""
        if not self._left:
            self._left = list(KINDS)
            self._draw.shuffle(self._left)
        return self._left.pop()


class Drawing:
    """Draws one workflow. `wallets` are ids of the organisation's wallets by address; `first_id` is the
    number of the first NFT: there is one for each wallet, in their order."""

    def __init__(
        self,
        witness: Witness,
        world: World,
        draw: random.Random,
        deck: Deck,
        wallets: Mapping[str, str],
        first_id: int,
    ) -> None:
        self.world = world
        self.draw = draw
        self.make = Maker(witness, world, draw, ids=[*range(first_id, first_id + 3)], salts=first_id * 4)
        self._deck = deck
        self._wallets = wallets
        self._nodes: Json = {ROOT: {"type": "manual", "payload": {}, "children": []}}
        self._ends: list[tuple[str, str | None]] = [(ROOT, None)]  # what the next node follows, and on which branch
        self._kinds: dict[str, str] = {}
        self._body: Json = {"to": {}, "rows": []}
        self._amounts: list[tuple[str, str, str]] = []  # wallet, token, expression
        self._created: dict[str, list[str]] = {}  # by kind, expressions of the addresses of what was created
        self.calls: dict[str, Workflow] = {}
        self.shapes: Counter[str] = Counter()
        self._names = Counter[str]()  # shared with the workflows that it calls

    def below(self) -> Self:
        """A drawing of a workflow that this one calls: it draws from the same deck, and no two nodes have one name."""
        made = type(self)(self.make.witness, self.world, self.draw, self._deck, self._wallets, 1)
        made.make, made._names = self.make, self._names
        return made

    def workflow(self, steps: int) -> Workflow:
        """So many steps, and what ties them together."""
        while len(self._kinds) < steps:
            self.shape()
        return self.finished()

    def finished(self) -> Workflow:
        """What was drawn so far."""
        return Workflow(self._nodes, self._body, self._kinds, self.calls, self.shapes)

    def shape(self) -> None:
        """One step, or some in branches or in a loop."""
        shape = self.draw.random()
        if shape < 0.08:
            self._fork()
        elif shape < 0.14:
            self._loop()
        else:
            self._row()

    def _name(self, what: str) -> str:
        self._names[what] += 1
        return f"{what}{self._names[what]}"

    # --- shapes -----------------------------------------------------------------------------------------------------

    def _row(self) -> None:
        """One step after the others, with some way to go on after a failure."""
        id = self._spend()
        node = self._nodes[id]
        way = self.draw.random()
        if way < 0.25:
            node["retry"] = {"maxAttempts": 2, "backoffMs": 1, "jitter": False}
        self._follow(id)
        if way > 0.985:
            return  # its failure ends the run
        if way > 0.8:
            node["onError"] = "branch"
            self._add(f"{id}_failed", "log", {"message": f"{{{{$nodes.{id}.error.code}}}}"}, [(id, "error")])
            self._nodes[f"{id}_failed"]["join"] = "any"
            self._ends = [(id, None), (f"{id}_failed", None)]
            return
        node["onError"] = "continue"

    def _fork(self) -> None:
        """An `if` on what a wallet has in the state that earlier steps left, with a step on either side."""
        wallet, token = self.draw.choice(WALLETS), self.draw.choice(("usdc", "weth", "rebasing"))
        look, ask = self._name("look"), self._name("ask")
        payload = {"chainId": CHAIN_ID, "token": self.world[token], "address": wallet}
        self._add(look, "get-erc20-balance", payload)
        limit = self.draw.choice((0, 10**6, 10**12, 10**21, 10**24))
        condition = {"$and": [{f"{{{{int($nodes.{look}.result.balance)}}}}": {"$gt": limit}}]}
        self._add(ask, "if", {"condition": condition})
        sides: list[tuple[str, str | None]] = []
        known = self._amounts, dict(self._created)
        for branch in ("then", "else"):  # neither side knows what the other brought, nor do later steps
            self._amounts, self._created = list(known[0]), {kind: list(made) for kind, made in known[1].items()}
            self._ends = [(ask, branch)]
            id = self._spend()
            self._nodes[id]["onError"] = "continue"
            self._follow(id)
            sides.append((id, None))
        self._amounts, self._created = known
        self._ends = sides

    def _loop(self) -> None:
        """A `for-each` that pays rows of the payload, one after the other."""
        loop, pay = self._name("each"), self._name("pay")
        token = self.draw.choice(("native", "usdc", "fee", "race", "pausable"))
        rows = [{"to": self._anybody(), "amount": str(self._units(token))} for _ in range(self.draw.randrange(2, 4))]
        place = len(self._body["rows"])
        self._body["rows"].append(rows)
        payload = {"array": f"{{{{$trigger.body.rows[{place}]}}}}", "concurrency": 1, "onItemError": "continue"}
        self._add(loop, "for-each", payload)
        self._nodes[loop]["loopBody"] = [pay]
        paid: Json = {"chainId": CHAIN_ID, "recipient": "{{$item.to}}", "amount": "{{$item.amount}}"}
        if token != "native":
            paid["token"] = self.world[token]
        type = "send-native" if token == "native" else "send-erc20-token"
        self._nodes[pay] = {"type": type, "payload": paid, "connector": self._wallet(self.draw.choice(WALLETS))}
        self._kinds[pay] = f"loop of {type}"

    # --- one step ---------------------------------------------------------------------------------------------------

    def _spend(self) -> str:
        """A spending node behind what was there; its id."""
        kind, sender = self._deck.deal(), self.draw.choice(WALLETS)
        step = STEPS[kind](self, sender)
        id = self._name("n")
        self._add(id, step.type, step.payload)
        self._nodes[id]["connector"] = self._wallet(sender)
        self._kinds[id] = kind
        self._amounts += [(sender, token, f"$nodes.{id}.result.{name}") for token, name in step.gives.items()]
        if step.type == "deploy-contract":
            self._created.setdefault(kind, []).append(f"{{{{$nodes.{id}.result.contractAddress}}}}")
        return id

    def _add(self, id: str, type: str, payload: Json, after: Sequence[tuple[str, str | None]] | None = None) -> None:
        self._nodes[id] = {"type": type, "payload": payload, "children": []}
        branches = {branch for _, branch in (after or self._ends)}
        for parent, branch in after or self._ends:
            self._nodes[parent]["children"].append(id)
            if branch is not None and len(branches) == 1:
                self._nodes[id]["branch"] = branch
        if after is None:
            self._follow(id)

    def _follow(self, id: str) -> None:
        self._ends = [(id, None)]

    def _wallet(self, address: str) -> Json:
        return {"type": "wallet", "id": self._wallets[address]}

    def _anybody(self) -> str:
        return self.draw.choice(WALLETS + STRANGERS)

    def recipient(self) -> str:
        """An address, now and then by way of the payload."""
        who = self._anybody()
        if self.draw.random() < 0.5:
            return who
        name = f"who{len(self._body['to'])}"
        self._body["to"][name] = who
        return f"{{{{$trigger.body.to.{name}}}}}"

    def _units(self, token: str) -> int:
        """Up to a hundred whole tokens, often uneven, at least one base unit."""
        if token == "native":
            return self.draw.choice((1, 10**15, ETHER // 3))
        return max(1, self.make.units(token))

    def amount(self, sender: str, token: str) -> str:
        """Base units: a number, all there is, or a part of what an earlier step brought."""
        brought = [text for wallet, name, text in self._amounts if (wallet, name) == (sender, token)]
        if brought and self.draw.random() < 0.7:
            text = self.draw.choice(brought)
            return self.draw.choice((f"{{{{{text}}}}}", f"{{{{string(div(int({text}), 2))}}}}"))
        return str(self._units(token))

    def created(self, kind: str) -> str | None:
        """A contract that an earlier step of that kind created in this workflow."""
        made = self._created.get(kind)
        return self.draw.choice(made) if made else None
