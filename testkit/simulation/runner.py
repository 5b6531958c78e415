"""Runs worlds, each in a process of its own, and tells what they were like: `scripts/simulate`."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final, Never

import dustrun.outbound.exchange  # noqa: F401 - once, and not in each world
from testkit.simulation.attacks.mutants import ATTACKS
from testkit.simulation.invariants import INVARIANTS, broken
from testkit.simulation.loop import Hang
from testkit.simulation.mutants import MUTANTS, hunt_all
from testkit.simulation.shared.mutants import SHARED
from testkit.simulation.shrinking import smallest
from testkit.simulation.world import Plan, World, keep_the_dead

VERSION: Final = 8
"""Seeds of another version are other worlds: raise it with whatever changes what a seed makes."""
_MUTANT_WORLDS: Final = 40
_MUTANT_HOURS: Final = 2.0
"""How many worlds a planted fault must show itself in: about two minutes of a processor."""
_TRIALS: Final = 60
"""How many worlds are tried to make a failing one smaller."""
_WORLDS: Final = {
    "chain": {"pays": 0, "strangers": 0},
    "people": {"calls": 0, "hooks": 0},
    "faults": {"faults": False},
    "kills": {"kills": 0, "restarts": 0},
    "disk": {"disk": 0},
    "attacks": {"attacks": False},
    "servers": {"servers": 1},
}
"""The parts of a world, and what a plan has without each."""
_ASKED_FOR: Final[dict[str, dict[str, Any]]] = {
    "disk": {"disk": 6},
    "attacks": {"attacks": True},
    "servers": {"servers": 3, "freezes": 6, "cuts": 4},
}
"""What a plan has with the parts that are in no world unless they are named."""


class Refusal(Exception):
    """The world or seed that was asked for cannot be; says why."""


@dataclass(slots=True)
class Outcome:
    """What became of one world. `broken`: what does not hold; `digest`: of its tables; `order`: of its steps."""

    seed: int
    broken: list[str]
    digest: str = ""
    order: int = 0
    counts: dict[str, int] | None = None
    hours: float = 0.0
    last: list[str] | None = None
    deeds: list[str] | None = None

    @property
    def label(self) -> str:
        """The seed as `--replay` takes it."""
        return f"{VERSION}:{self.seed}"

    @property
    def trace(self) -> str:
        """What is compared with another time: the tables, and the order of all steps."""
        return f"{self.digest} {self.order:08x}"


def parse_seed(text: str) -> int:
    """`VERSION:NUMBER`, or the number alone; raises `Refusal`."""
    version, _, number = text.rpartition(":")
    if version and version != str(VERSION):
        raise Refusal(
            f"The seed {text} is of version {version} of the simulation; this one has version {VERSION}, in which it "
            "is another world. Check out the commit that found it."
        )
    if not number.isdecimal():
        raise Refusal(f'"{text}" is no seed: give a number, or {VERSION}:NUMBER.')
    return int(number)


def parse_plan(text: str | None, plan: Plan) -> Plan:
    """The plan with the named parts only; raises `Refusal` for a part that is not simulated."""
    if text is None:
        return plan
    wanted = [one.strip() for one in text.split(",") if one.strip()]
    for one in wanted:
        if one not in _WORLDS:
            raise Refusal(f'"{one}" cannot be simulated; parts of a world are {", ".join(_WORLDS)}.')
    for name, without in _WORLDS.items():
        change = _ASKED_FOR.get(name, {}) if name in wanted else without
        plan = replace(plan, **change)  # type: ignore[arg-type]
    return plan


def one(seed: int, plan: Plan, template: Path) -> Outcome:
    """Lives through one world in a forked process."""
    here, there = os.pipe()
    child = os.fork()
    if child:
        os.close(there)
        with os.fdopen(here, "rb") as answers:
            raw = answers.read()
        os.waitpid(child, 0)
        found = json.loads(raw) if raw else {"seed": seed, "broken": ["the process of the world died"]}
        return Outcome(**found)
    os.close(here)
    keep_the_dead()
    outcome = live(seed, plan, template)
    with os.fdopen(there, "wb") as out:
        out.write(json.dumps({each.name: getattr(outcome, each.name) for each in fields(outcome)}).encode())
    os._exit(0)  # nothing of the world is cleaned up


def live(seed: int, plan: Plan, template: Path) -> Outcome:
    """Lives through one world in this process."""
    world = World(seed, plan, template)
    try:
        world.run()
        told = world.loop.order, world.counts(), plan.hours, world.told(), world.deeds
        return Outcome(seed, broken(world), world.digest(), *told)
    except Hang as hang:
        return Outcome(seed, [f"hang: {hang}"], last=world.told(), deeds=world.deeds)
    except Exception as error:
        return Outcome(seed, [f"the simulation failed: {error!r} {traceback.format_exc()[-1500:]}"], last=world.told())
    finally:
        world.close()


def shrunk(outcome: Outcome, plan: Plan, template: Path) -> Plan:
    """The plan of a failing world without what can be left out of it while the same thing stays broken."""
    deeds, what = outcome.deeds or [], outcome.broken[0].partition(":")[0]

    def with_only(left: Sequence[str]) -> Plan:
        return replace(plan, without=(*plan.without, *(deed for deed in deeds if deed not in left)))

    def fails(left: Sequence[str]) -> bool:
        return any(text.partition(":")[0] == what for text in one(outcome.seed, with_only(left), template).broken)

    return with_only(smallest(deeds, fails, _TRIALS))


def tell(outcome: Outcome, options: str = "") -> str:
    """A failure in plain words; `options` say which worlds they were."""
    lines = [f"SEED {outcome.label} is broken:"]
    for text in outcome.broken[:10]:
        name = text.partition(":")[0]
        lines.append(f"  {text}")
        if name in INVARIANTS:
            lines.append(f"    promised in docs/{INVARIANTS[name][0]}")
    lines += ["  What happened last:", *(f"    {one}" for one in (outcome.last or [])[-20:])]
    lines.append(f"  Again: scripts/simulate --replay {outcome.label}{options}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """The program; returns its exit status."""
    given = _parser().parse_args(arguments)
    try:
        without = tuple(name for name in given.without.split(",") if name)
        plan = parse_plan(given.world, replace(Plan(), hours=given.hours, without=without))
        first = parse_seed(given.replay or given.seed)
    except Refusal as refusal:
        print(refusal, file=sys.stderr)
        return 2
    if given.mutants is not None:
        count = _MUTANT_WORLDS if given.count is None else given.count
        limits = ["--seed", str(first), "--count", str(count), "--hours", str(min(given.hours, _MUTANT_HOURS))]
        return hunt_all(
            (*MUTANTS, *ATTACKS, *SHARED), given.mutants, [*limits, *(["--world", given.world] if given.world else [])]
        )
    keep_the_dead()
    base = World(0, plan)
    template = base.prepare()
    try:
        if given.replay:
            _replay(first, plan, template)
        return _go_on(first, given, plan, template)
    finally:
        base.close()
        sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("scripts/simulate", description="The whole server under deterministic simulation.")
    parser.add_argument("--seed", default="0", help="the first seed; the others follow")
    parser.add_argument("--count", type=int, help="how many seeds; default: until --minutes are over")
    parser.add_argument("--minutes", type=float, default=1.0, help="how long, without --count")
    parser.add_argument("--hours", type=float, default=Plan().hours, help="simulated hours of each world")
    parser.add_argument(
        "--world", help=f"parts of the world, of {','.join(_WORLDS)}; default: all but {','.join(_ASKED_FOR)}"
    )
    parser.add_argument("--replay", metavar="SEED", help="one seed again, with all that happened in it")
    parser.add_argument("--without", metavar="NAMES", default="", help="leaves these out of what happens")
    parser.add_argument("--as-it-is", action="store_true", help="does not shrink the first failure, as with --twice")
    parser.add_argument("--twice", action="store_true", help="each world twice, which must give the same bytes")
    parser.add_argument("--until-broken", action="store_true", help="stops at the first world that is broken")
    parser.add_argument(
        "--mutants", nargs="*", metavar="NAME", help="plants each fault, or these, and looks for a seed that finds it"
    )
    parser.add_argument("--digests", action="store_true", help="prints the hashes of each world: tables, steps")
    return parser


def _replay(seed: int, plan: Plan, template: Path) -> Never:
    outcome = live(seed, plan, template)
    print("\n".join(outcome.last or []))
    print(tell(outcome) if outcome.broken else f"Seed {outcome.label} holds; {outcome.trace}.", flush=True)
    os._exit(1 if outcome.broken else 0)  # nothing of the world is cleaned up


def _go_on(first: int, given: argparse.Namespace, plan: Plan, template: Path) -> int:
    begun, said, counts, worlds, failed = time.monotonic(), time.monotonic(), Counter[str](), 0, 0
    until = begun + given.minutes * 60 if given.count is None else float("inf")
    seeds = iter(range(first, first + (given.count if given.count is not None else 10**9)))
    for outcome in (one(seed, plan, template) for seed in seeds):
        worlds += 1
        if given.twice:
            again = one(outcome.seed, plan, template)
            if (again.digest, again.order) != (outcome.digest, outcome.order):
                outcome.broken.append(f"the seed gave {outcome.trace}, and then {again.trace}")
        counts.update(outcome.counts or {})
        if given.digests:
            print(outcome.label, outcome.trace)
        if outcome.broken:
            failed += 1
            print(tell(outcome, _options(given, plan)), flush=True)
            if failed == 1 and outcome.deeds and not (given.as_it_is or given.twice):  # each takes minutes
                small = shrunk(outcome, plan, template)
                smaller = one(outcome.seed, small, template)
                names = ", ".join(smaller.deeds or ()) or "nothing that can be left out"
                print(f"Of {len(outcome.deeds)} things that happened, {len(smaller.deeds or ())} are left: {names}.")
                print(tell(smaller, _options(given, small)), flush=True)
        now = time.monotonic()
        if now - said > 60 or now > until:
            said = now
            print(_line(worlds, plan, counts, failed, now - begun), flush=True)
        if now > until or (failed and given.until_broken):
            break
    print(_line(worlds, plan, counts, failed, time.monotonic() - begun))
    return 1 if failed else 0


def _options(given: argparse.Namespace, plan: Plan) -> str:
    """What must be given again for the same worlds."""
    hours = "" if plan.hours == Plan().hours else f" --hours {plan.hours:g}"
    without = f" --without '{','.join(plan.without)}'" if plan.without else ""
    return hours + (f" --world {given.world}" if given.world else "") + without


def _line(worlds: int, plan: Plan, counts: Counter[str], failed: int, took_s: float) -> str:
    hours = worlds * plan.hours
    kinds = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
    speed = hours * 3600 / took_s
    told = f"{worlds} worlds, {hours:g} simulated hours in {took_s:.0f} s ({speed:,.0f} times real time)"
    return f"{told}, {failed} broken; {kinds}"


if __name__ == "__main__":
    sys.exit(main())
