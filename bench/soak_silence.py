"""That a simulation is silent: what leaves the server, and what stays behind in it, recorded from outside its process.

    scripts/soak silence [--scale 200] [--seed 1] [--strategies simulate-v1,trace-call] [--steps 12]

Every bundled example and `scale` random workflows (`bench/random_workflows.py`, with messages, web requests,
variables, tables, signatures and waits added) are simulated. Outside stand: an endpoint that lets reads of the chain
through and refuses the rest, a place on the web, a signer, and `strace` (or samples of `/proc`) with the connections
of the server's processes. Every row of every table and every file of the data folder is compared before and after. At
the end the same is run live, as a control: there everything must be heard.
"""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench import connections
from bench.chain_operations import STRANGERS
from bench.connections import Watch
from bench.noisy_workflows import examples, noisy
from bench.odd_tokens import deploy_odd_tokens
from bench.random_workflows import Deck, Drawing
from bench.recorders import Recorders, recorders
from bench.workflow_server import Server, open_server
from testkit.chain.anvil import ACCOUNTS, CHAIN_ID, Anvil
from testkit.chain.contracts import World, build
from testkit.server_process import ServerProcess
from testkit.store_watch import Difference, Store

DEFAULT_SCALE = 200
_WALLETS = (1, 2, 3)

Json = dict[str, Any]


def run(
    scale: int | None = None, seed: int = 1, strategies: str = "simulate-v1,trace-call", steps: str = "12"
) -> dict[str, Any]:
    """What came to the recorders and the tables; `failures` are everything that should not have."""
    with tempfile.TemporaryDirectory(prefix="dustrun-silence-") as folder:
        world = build(Path(folder))
        found = {}
        for strategy in strategies.split(","):
            with proof(world, strategy) as one:
                found[strategy] = one.run(scale or DEFAULT_SCALE, int(steps), seed)
    failures = [f"{name}: {failure}" for name, one in found.items() for failure in one["failures"]]
    return {"node": "anvil 1.7.1", **found, "failures": failures}


@contextmanager
def proof(world: World, strategy: str) -> Iterator[Proof]:
    """A server with everything around it."""
    addresses = [ACCOUNTS[place] for place in _WALLETS]
    world = replace(world, addresses=dict(world.addresses))
    with (
        tempfile.TemporaryDirectory(prefix="dustrun-silence-") as name,
        world.node() as node,
        recorders(node.url, addresses) as outside,
    ):
        deploy_odd_tokens(world.witness(node), STRANGERS[0])
        watch = connections.watch(Path(name))
        settings = {"simulation_strategy": strategy, "remote_signers": f"vault={outside.signer_url}"}
        with open_server(Path(name), world, outside.node_url, before=watch.command, **settings) as process:
            yield Proof(world, node, outside, process, watch)


class Proof:
    """One server, and everything around it."""

    def __init__(self, world: World, node: Anvil, outside: Recorders, process: ServerProcess, watch: Watch) -> None:
        self._world = world
        self._node = node
        self._outside = outside
        self._process = process
        self._watch = watch
        self._witness = world.witness(node)
        self._server = Server(process)
        self._failures: list[str] = []
        for place in _WALLETS:
            self._server.add_wallet(ACCOUNTS[place], kind="remote", signer="vault", isDefault=place == 1)
        columns = [{"name": "id", "type": "text"}, {"name": "units", "type": "text"}]
        self._server.call("POST", "/v1/tables", {"name": "notes", "primaryKey": "id", "columns": columns})

    def run(self, workflows: int, steps: int, seed: int) -> Json:
        """All simulations between two looks at everything; then the control."""
        ready = self._prepare(workflows, steps, seed)
        self._outside.forget()
        self._watch.begin(self._process.server_pid)
        chain, before = self._chain(), Store.read(self._process.data_dir)
        ended: Counter[str] = Counter()
        nodes: Counter[str] = Counter()
        for id, payload in ready:
            run = self._server.run(id, simulate=True, payload=payload)
            ended[run["status"]] += 1
            nodes.update(node["type"] for node in run["executionState"].values() if node["status"] == "success")
        after = Store.read(self._process.data_dir)
        difference = Difference(before, after)
        self._failures += difference.faults
        if self._chain() != chain:
            self._failures.append(f"the chain moved: {chain} became {self._chain()}")
        found = {
            "simulations": len(ready),
            "endedAs": dict(ended),
            "nodesCarriedOut": dict(sorted(nodes.items())),
            "readsOfTheChain": dict(sorted(self._outside.reads.items())),
            "readsOfTheWeb": dict(sorted(self._outside.pages.items())),
            "refusedByTheEndpoint": dict(self._outside.refused),
            "writesToTheWeb": dict(self._outside.writes),
            "callsOfTheSigner": dict(self._outside.signer),
            "connections": self._connections(),
            "tablesCompared": len(after.tables),
            "rowsCompared": sum(map(len, before.tables.values())),
            "rowsThatCame": dict(difference.came),
            "rowsThatChanged": dict(difference.changed),
            "filesCompared": len(after.files),
        }
        for name in ("refusedByTheEndpoint", "writesToTheWeb", "callsOfTheSigner"):
            if found[name]:
                self._failures.append(f"{name}: {found[name]}")
        return {**found, "control": self._control(ready[-1]), "failures": self._failures[:40]}

    def _prepare(self, workflows: int, steps: int, seed: int) -> list[tuple[str, Json]]:
        """Stores them all before the first look."""
        draw = random.Random(f"{seed} silence")
        deck, made = Deck(draw), []
        for name, definition, payload in examples(self._world, self._outside.web_url):
            made.append((self._server.create(name, definition), payload))
        for number in range(workflows):
            drawing = Drawing(self._witness, self._world, draw, deck, self._server.wallets, 1 + number * 20)
            workflow = noisy(drawing.workflow(steps), draw, self._outside.web_url)
            made.append((self._server.create(f"random {number}", workflow.definition()), workflow.payload))
        return made

    def _chain(self) -> Json:
        """What a broadcast would change: height, nonces, and pending transactions."""
        web3 = self._witness.web3
        nonces = {ACCOUNTS[place]: self._witness.nonce(ACCOUNTS[place]) for place in _WALLETS}
        return {"height": web3.eth.block_number, "nonces": nonces, "waiting": self._node.rpc("txpool_status")}

    def _connections(self) -> Json:
        """Where the server's processes connected to."""
        names: dict[int | str, str] = {
            int(url.rpartition(":")[2]): name
            for url, name in (
                (self._outside.node_url, "the chain's endpoint"),
                (self._outside.web_url, "the web"),
                (self._outside.signer_url, "the signer"),
            )
        }
        counted = {names.get(target, f"elsewhere: {target}"): count for target, count in self._watch.end().items()}
        allowed = ("the chain's endpoint", "the web")
        self._failures += [f"a connection to {name}" for name in counted if name not in allowed]
        return {"seenBy": self._watch.seen_by, **counted}

    def _control(self, last: tuple[str, Json]) -> Json:
        """The same live: everything that must be silent above is heard here."""
        self._outside.forget()
        before = Store.read(self._process.data_dir)
        nodes: Json = {
            "root": {"type": "manual", "payload": {}, "children": ["pay", "post"]},
            "pay": {
                "type": "send-native",
                "payload": {"chainId": CHAIN_ID, "recipient": ACCOUNTS[2], "amount": "1"},
                "onError": "continue",
            },
            "post": {"type": "http-request", "payload": {"method": "POST", "url": f"{self._outside.web_url}/loud"}},
        }
        self._server.run(self._server.create("control", {"nodes": nodes, "triggerNodeIds": ["root"]}))
        difference = Difference(before, Store.read(self._process.data_dir))
        heard = {
            "signer": self._outside.signer["eth_signTransaction"] > 0,
            "web": self._outside.writes["POST /loud"] > 0,
            "tables": any("mode live" in fault for fault in difference.faults),
        }
        self._failures += [
            f"the control: nothing was heard of the {name}" for name, is_heard in heard.items() if not is_heard
        ]
        return heard
