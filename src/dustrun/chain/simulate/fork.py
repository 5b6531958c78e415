"""The state of a simulated chain as JSON: the pinned block, its fees, and the transactions so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Final

from dustrun.chain import wire
from dustrun.core.values.exact_json import dumps_text
from dustrun.records import dataclass
from dustrun.sdk.chain import Fees

MAX_STEPS: Final = 250  # eth_simulateV1 accepts at most 256 blocks


@dataclass(frozen=True, slots=True)
class Step:
    """An executed transaction in block `number` at `time` (seconds). `creates` is the address of a created contract,
    `runtime` its code if the node cannot create contracts.
    """

    sender: str
    to: str | None
    value_units: int
    data: bytes
    gas: int
    price_units: int
    number: int
    time: int
    creates: str | None = None
    runtime: bytes | None = None

    def public(self) -> dict[str, Any]:
        """As JSON; amounts are decimal strings of base units."""
        return {
            "sender": self.sender,
            "to": self.to,
            "value": str(self.value_units),
            "data": wire.hexed(self.data),
            "gas": self.gas,
            "price": str(self.price_units),
            "number": self.number,
            "time": self.time,
            "creates": self.creates,
            "runtime": None if self.runtime is None else wire.hexed(self.runtime),
        }

    @classmethod
    def of(cls, shown: Mapping[str, Any]) -> Step:
        """Parses `public()`."""
        return cls(
            shown["sender"],
            shown["to"],
            int(shown["value"]),
            bytes.fromhex(shown["data"][2:]),
            shown["gas"],
            int(shown["price"]),
            shown["number"],
            shown["time"],
            shown["creates"],
            None if shown["runtime"] is None else bytes.fromhex(shown["runtime"][2:]),
        )


@dataclass(slots=True)
class Fork:
    """The pinned block and the transactions on top of it. `owed` are fees by address that the node cannot charge (an
    L2's data fee, the extra cost of a creation), `waited_s` is how far the clock was advanced since the last step,
    `nonces` are cached nonces at the pinned block. `changes` is the version of the state.
    """

    number: int
    hash: str
    time: int
    gas_limit: int
    fees: Fees
    producer: str | None = None  # receives the fees of simulated blocks
    strategy: str | None = None
    steps: list[Step] = field(default_factory=list)
    waited_s: int = 0
    nonces: dict[str, int] = field(default_factory=dict)
    owed: dict[str, int] = field(default_factory=dict)
    watched: dict[str, None] = field(default_factory=dict)  # keys of `touched.Holding`, in order
    approved: dict[str, None] = field(default_factory=dict)  # keys of `touched.Approval`
    changes: int = 1
    _written: list[str] = field(default_factory=list, repr=False, compare=False)  # JSON of the steps serialised so far

    @property
    def head_number(self) -> int:
        """The number of the newest block."""
        return self.number + len(self.steps)

    @property
    def base_fee_units(self) -> int:
        """Expected base fee of the block after the pinned one, in base units; 0 without EIP-1559."""
        return 0 if self.fees.is_legacy else max(0, self.fees.expected_units - self.fees.tip_units)

    def sent_by(self, sender: str) -> int:
        """Number of simulated transactions of an address."""
        return sum(step.sender == sender for step in self.steps)

    @property
    def now(self) -> int:
        """The simulated time, in seconds since the epoch."""
        return (self.steps[-1].time if self.steps else self.time) + self.waited_s

    def text(self) -> str:
        """`public()` as text. Each step is serialised only once, since the state is stored after every step."""
        for step in self.steps[len(self._written) :]:
            self._written.append(dumps_text(step.public()))
        return f'{dumps_text(self._frame())[:-1]},"steps":[{",".join(self._written)}]}}'

    def public(self) -> dict[str, Any]:
        """As JSON, including all steps."""
        return {**self._frame(), "steps": [step.public() for step in self.steps]}

    def mark(self) -> dict[str, Any]:
        """`public()` with the number of steps instead of them: they are the first ones of a later state."""
        return {**self._frame(), "steps": len(self.steps)}

    def _frame(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "hash": self.hash,
            "time": self.time,
            "gasLimit": self.gas_limit,
            "maxFee": str(self.fees.max_fee_units),
            "tip": str(self.fees.tip_units),
            "expectedFee": str(self.fees.expected_units),
            "isLegacy": self.fees.is_legacy,
            "producer": self.producer,
            "strategy": self.strategy,
            "waitedS": self.waited_s,
            "nonces": dict(self.nonces),
            "owed": {address: str(units) for address, units in self.owed.items()},
            "watched": list(self.watched),
            "approved": list(self.approved),
            "changes": self.changes,
        }

    @classmethod
    def of(cls, shown: Mapping[str, Any]) -> Fork:
        """Parses `public()`."""
        return cls(
            number=shown["number"],
            hash=shown["hash"],
            time=shown["time"],
            gas_limit=shown["gasLimit"],
            fees=Fees(int(shown["maxFee"]), int(shown["tip"]), int(shown["expectedFee"]), shown["isLegacy"]),
            producer=shown.get("producer"),
            strategy=shown["strategy"],
            steps=[Step.of(step) for step in shown["steps"]],
            waited_s=shown["waitedS"],
            nonces=dict(shown["nonces"]),
            owed={address: int(units) for address, units in shown["owed"].items()},
            watched=dict.fromkeys(shown["watched"]),
            approved=dict.fromkeys(shown["approved"]),
            changes=shown["changes"],
        )
