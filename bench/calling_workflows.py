"""Random workflows that call others, up to three levels deep and in loops; loops over wallets, again while a test
holds, and at a limited rate. The steps are those of `bench/random_workflows.py`.
"""

from __future__ import annotations

from collections.abc import Callable

from bench.chain_operations import WALLETS
from bench.random_workflows import ROOT, Drawing, Json, Workflow
from testkit.chain.anvil import CHAIN_ID

DEPTH = 3
SHAPES = ("call", "call in a loop", "call that is only started", "while", "loop over wallets", "rate")
LOOPED = ("while", "loop over wallets", "call in a loop")  # kinds of payments
_LOOP_TOKENS = ("native", "usdc", "fee", "race", "SilentToken", "GrowingToken", "HookedToken")


class CallingDrawing(Drawing):
    """Draws one workflow and those that it calls; `level` is how many calls are above it."""

    level = 0

    def calling(self, steps: int) -> Workflow:
        """A workflow of so many steps, those of called ones included, with at least one call."""
        while len(self._kinds) < steps:
            self.draw.choice((self._call, self._call_each, self.while_holds, self.each_wallet, self._plain))()
        if self.level == 0 and self.draw.random() < 0.5:
            self._start()
        if not self.calls:
            self._call()
        return self.finished()

    def looping(self, steps: int) -> Workflow:
        """A workflow with the loops, and without calls."""
        while len(self._kinds) < steps:
            self.draw.choice((self.while_holds, self.each_wallet, self._plain, self._plain))()
        return self.finished()

    def _plain(self) -> None:
        self.shape()

    def _child(self, steps: int, prepare: Callable[[CallingDrawing], None] | None = None) -> CallingDrawing:
        """What a call runs: it may call further while that is not too deep."""
        made = self.below()
        made.level = self.level + 1
        if prepare is not None:
            prepare(made)
        if made.level < DEPTH and self.draw.random() < 0.4:
            made.calling(len(made._kinds) + steps)
        else:
            made.looping(len(made._kinds) + steps)
        return made

    def _call(self) -> None:
        """A call that is waited for, sometimes tried again, sometimes with amounts that earlier steps brought."""
        handed = self.draw.sample(self._amounts, min(len(self._amounts), 2))
        child = self._child(self.draw.randrange(1, 4), lambda made: made.take(handed))
        id = self._add_call(child, "call", {name: f"{{{{{text}}}}}" for name, (_, _, text) in child.taken(handed)})
        node = self._nodes[id]
        if self.draw.random() < 0.2:
            node["retry"] = {"maxAttempts": 2, "backoffMs": 1, "jitter": False}
        node["onError"] = "continue"

    def take(self, handed: list[tuple[str, str, str]]) -> None:
        """Knows amounts that the payload brings."""
        self._amounts += [(who, token, f"$trigger.body.{name}") for name, (who, token, _) in self.taken(handed)]

    @staticmethod
    def taken(handed: list[tuple[str, str, str]]) -> list[tuple[str, tuple[str, str, str]]]:
        """Their names in the payload."""
        return [(f"units{place}", one) for place, one in enumerate(handed)]

    def _call_each(self) -> None:
        """A loop over rows that calls a workflow with each."""
        token = self.draw.choice(_LOOP_TOKENS)
        child = self._child(self.draw.randrange(0, 2), lambda made: made.pay_what_the_payload_says(token))
        rows = [{"to": self._anybody(), "amount": str(self._units(token))} for _ in range(self.draw.randrange(2, 4))]
        loop = self._add_loop({"array": rows, "concurrency": 1, "onItemError": "continue"})
        each = {"who": "{{$item.to}}", "units": "{{$item.amount}}"}
        ends = self._ends
        id = self._add_call(child, "call in a loop", each, is_in_loop=True)
        self._ends = ends
        self._nodes[loop]["loopBody"] = [id]

    def pay_what_the_payload_says(self, token: str) -> None:
        """The first step of a workflow that a loop calls."""
        id = self._pay(token, "{{$trigger.body.who}}", "{{$trigger.body.units}}", "call in a loop")
        self._nodes[id] |= {"children": [], "onError": "continue"}
        self._nodes[ROOT]["children"].append(id)
        self._follow(id)

    def _start(self) -> None:
        """A call that is not waited for, last of all: live it would go on beside what follows."""
        child = self._child(self.draw.randrange(1, 3))
        id = self._add_call(child, "call that is only started", {})
        self._nodes[id]["payload"]["mode"] = "start"

    def _add_call(self, child: CallingDrawing, shape: str, payload: Json, *, is_in_loop: bool = False) -> str:
        id = self._name("call")
        called = child.finished()
        sent = {**{name: value for name, value in called.payload.items() if value}, **payload}
        node: Json = {"type": "call-workflow", "payload": {"payload": sent}, "children": []}
        if is_in_loop:
            self._nodes[id] = node
        else:
            self._add(id, node["type"], node["payload"])
        self.calls[id] = called
        self._kinds |= called.kinds
        self.shapes[shape] += 1
        return id

    # --- loops ------------------------------------------------------------------------------------------------------

    def while_holds(self) -> None:
        """Pays half of what it paid before while that is enough, or while the recipient has too little."""
        token, who = self.draw.choice(_LOOP_TOKENS), self._anybody()
        units = max(8, self._units(token))
        payload: Json = {
            "while": f"int($item.units) > {units // self.draw.choice((2, 4, 8))}",
            "first": {"units": str(units)},
            "next": {"units": "{{string(div(int($item.units), 2))}}"},
            "maxItems": self.draw.choice((2, 6, 6)),
        }
        loop = self._add_loop(payload)
        self._nodes[loop]["loopBody"] = [self._pay(token, who, "{{$item.units}}", "while")]
        self.shapes["while"] += 1

    def each_wallet(self) -> None:
        """Every wallet pays, by the item that names it."""
        token = self.draw.choice(_LOOP_TOKENS)
        rows = [{"wallet": self._wallets[one], "amount": str(self._units(token))} for one in WALLETS]
        self.draw.shuffle(rows)
        loop = self._add_loop({"array": rows, "concurrency": 1, "onItemError": "continue"})
        paid = self._pay(token, self._anybody(), "{{$item.amount}}", "loop over wallets")
        self._nodes[paid]["connector"] = {"type": "wallet", "id": "{{$item.wallet}}"}
        self._nodes[loop]["loopBody"] = [paid]
        self.shapes["loop over wallets"] += 1

    def _add_loop(self, payload: Json) -> str:
        loop = self._name("each")
        self._add(loop, "for-each", payload)
        self._nodes[loop]["onError"] = "continue"
        return loop

    def _pay(self, token: str, who: str, units: str, kind: str) -> str:
        """A payment that is no step of the row yet; sometimes at a limited rate."""
        id = self._name("pay")
        paid: Json = {"chainId": CHAIN_ID, "recipient": who, "amount": units}
        type = "send-native"
        if token != "native":
            paid["token"] = self.world[token]
            type = "send-erc20-token"
        self._nodes[id] = {"type": type, "payload": paid, "connector": self._wallet(self.draw.choice(WALLETS))}
        if self.draw.random() < 0.3:
            self._nodes[id]["rate"] = {"count": 1, "perMs": 20}
            self.shapes["rate"] += 1
        self._kinds[id] = kind
        return id
