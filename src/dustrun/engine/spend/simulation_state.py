"""The state that the simulated runs under one root share: chains, prices, spending; in memory and in the tables."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import field
from typing import Any

from dustrun.chain.simulate import SimChain
from dustrun.core.money.policy import CountedUnits
from dustrun.core.values.exact_json import dumps_text, loads_own
from dustrun.records import dataclass
from dustrun.services.prices import PriceBook
from dustrun.services.wallets.budget import Earlier
from dustrun.storage.runs.forks import Fork

_WALLETS = 0  # no chain has this id: the row of what wallets have spent on all of them
Json = dict[str, Any]


@dataclass(slots=True)
class SimulationState:
    """`recorded`: the state version of each chain handed to the recorder. `spent`: what each wallet has spent. `done`:
    executed intents of nodes that then failed, by node and item, so that the next attempt does not repeat them.
    `marks`: where nodes began that carry out several. `runs`: the unfinished runs. `now_ms`: the clock of its prices.
    `recipients`: since when each wallet has paid whom, as far as it was looked up."""

    runs: set[int] = field(default_factory=set)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    chains: dict[int, SimChain] = field(default_factory=dict)
    stored: dict[int, str] | None = None
    recorded: dict[int, int] = field(default_factory=dict)
    spent: dict[str, list[Earlier]] = field(default_factory=dict)
    done: dict[str, dict[str, Json]] = field(default_factory=dict)
    marks: dict[str, Json] = field(default_factory=dict)
    changes: int = 0
    prices: PriceBook | None = None
    priced_at: tuple[int, int] = (-1, 0)
    recipients: dict[str, dict[str, int | None]] = field(default_factory=dict)
    now_ms: int = 0
    _written: dict[str, list[str]] = field(default_factory=dict)

    @property
    def moment(self) -> int:
        """Increases whenever a chain changes."""
        return sum(sim.changes for sim in self.chains.values())

    def count(self, wallet_id: str, at_ms: int, counted: CountedUnits) -> None:
        """A wallet has spent something."""
        self.spent.setdefault(wallet_id, []).append(Earlier(at_ms, counted))
        self.changes += 1

    def keep(self, key: str, item: str, done: Json) -> None:
        """Remembers an executed intent of a node."""
        self.done.setdefault(key, {})[item] = done
        self.changes += 1

    def let_go(self, key: str) -> None:
        """Forgets the executed intents of a node that has ended."""
        if self.done.pop(key, None) is not None or self.marks.pop(key, None) is not None:
            self.marks.pop(key, None)
            self.changes += 1

    def mark(self, key: str, chains: Json) -> None:
        """Remembers where a node began that carries out several intents: the marks of its chains by their ids, and how
        much each wallet has spent. A later attempt goes on from there."""
        lengths = {wallet_id: len(earlier) for wallet_id, earlier in self.spent.items()}
        self.marks[key] = {"chains": chains, "spent": lengths}
        self.changes += 1

    def go_back(self, key: str) -> Json:
        """Forgets what wallets have spent since a node began, and what it has executed. Returns its chains' marks."""
        mark: Json = self.marks.pop(key)
        for wallet_id, earlier in self.spent.items():
            length = mark["spent"].get(wallet_id, 0)
            del earlier[length:], self._written.get(wallet_id, [])[length:]
        self.done.pop(key, None)
        self.changes += 1
        chains: Json = mark["chains"]
        return chains

    def unrecorded(self, top_pk: int) -> list[Fork]:
        """The rows that changed since the last call."""
        found = []
        for chain_id, sim in self.chains.items():
            if sim.changes > self.recorded.get(chain_id, 0):
                self.recorded[chain_id] = sim.changes
                found.append(Fork(top_pk, chain_id, sim.changes, sim.to_text()))
        if self.changes > self.recorded.get(_WALLETS, 0):
            self.recorded[_WALLETS] = self.changes
            found.append(Fork(top_pk, _WALLETS, self.changes, self._wallets()))
        return found

    def _wallets(self) -> str:
        spent = ",".join(f"{dumps_text(id)}:[{self._spent_by(id)}]" for id in self.spent)
        return f'{{"spent":{{{spent}}},"done":{dumps_text(self.done)},"marks":{dumps_text(self.marks)}}}'

    def _spent_by(self, wallet_id: str) -> str:
        """The JSON of a wallet's spends; each is serialised once, since all are stored after every one."""
        written = self._written.setdefault(wallet_id, [])
        written += [dumps_text(_shown(one)) for one in self.spent[wallet_id][len(written) :]]
        return ",".join(written)

    def restore(self, rows: Sequence[Fork]) -> None:
        """Restores the state from the tables."""
        self.stored = {row.chain_id: row.state for row in rows if row.chain_id != _WALLETS}
        for row in rows:
            if row.chain_id == _WALLETS:
                shown = loads_own(row.state)
                self.changes = self.recorded[_WALLETS] = row.steps
                self.done = shown["done"]
                self.marks = shown.get("marks", {})
                self.spent = {
                    wallet_id: [_read(one) for one in earlier] for wallet_id, earlier in shown["spent"].items()
                }


def _shown(earlier: Earlier) -> Json:
    counted = earlier.counted
    return {
        "atMs": earlier.at_ms,
        "units": {name: str(units) for name, units in counted.units.items()},
        "unpriced": list(counted.unpriced),
        "feeUnpriced": counted.fee_unpriced,
    }


def _read(shown: Json) -> Earlier:
    units = {name: int(units) for name, units in shown["units"].items()}
    return Earlier(shown["atMs"], CountedUnits(units, tuple(shown["unpriced"]), shown["feeUnpriced"]))
