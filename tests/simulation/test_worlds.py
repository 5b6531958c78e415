"""The whole server in simulated worlds: the seeds of every change, and what a seed promises."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from testkit.e2e.guide import ROOT
from testkit.simulation.attacks.mutants import ATTACKS
from testkit.simulation.mutants import MUTANTS, Mutant
from testkit.simulation.runner import VERSION, Refusal, parse_plan, parse_seed
from testkit.simulation.shared.mutants import SHARED
from testkit.simulation.world import Plan

_WITHIN_S = 900


def _simulate(*arguments: str, hash_seed: str = "0") -> list[str]:
    """The lines of a run that holds; fails with what it said."""
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "testkit.simulation.runner", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=_WITHIN_S)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    return done.stdout.splitlines()


def test_worlds_hold_and_give_the_same_bytes_in_another_process() -> None:
    worlds = ("--seed", "1", "--hours", "1", "--digests")
    first = _simulate(*worlds, "--count", "2")
    assert first[-1].startswith("2 worlds, 2 simulated hours"), first
    assert _simulate(*worlds, "--count", "1", hash_seed="7")[0] == first[0]


@pytest.mark.long
def test_ten_minutes_of_worlds_hold() -> None:
    _simulate("--seed", "100000", "--minutes", "10")


def test_a_world_whose_disk_fails_holds() -> None:
    told = _simulate("--seed", "0", "--hours", "1", "--count", "1", "--world", "chain,people,faults,kills,disk")
    assert "commits of unknown outcome" in told[-1], told


def test_nobody_without_the_right_moves_money_in_a_world_with_attacks() -> None:
    _simulate("--seed", "0", "--hours", "2", "--count", "1", "--world", "chain,people,faults,kills,attacks")


def test_three_servers_share_a_store_stand_still_and_are_cut_off() -> None:
    told = _simulate("--seed", "2", "--hours", "0.8", "--count", "1", "--world", "chain,people,faults,kills,servers")
    assert "servers that stood still" in told[-1], told


def test_a_seed_of_another_version_is_refused() -> None:
    assert parse_seed(f"{VERSION}:17") == parse_seed("17") == 17
    with pytest.raises(Refusal, match=f"of version 0 of the simulation; this one has version {VERSION}"):
        parse_seed("0:17")
    with pytest.raises(Refusal, match='"many" is no seed'):
        parse_seed("many")


def test_a_world_that_cannot_be_simulated_is_refused() -> None:
    assert parse_plan(None, Plan()) == Plan()
    assert parse_plan("people,faults", Plan()).kills == 0
    assert parse_plan("people,disk", Plan()).disk > parse_plan("people", Plan()).disk == 0
    with pytest.raises(Refusal, match='"moon" cannot be simulated; parts of a world are chain, people, faults, kills'):
        parse_plan("people,moon", Plan())


@pytest.mark.parametrize("mutant", [*MUTANTS, *ATTACKS, *SHARED], ids=lambda one: one.name)
def test_each_planted_fault_still_fits_the_product(mutant: Mutant) -> None:
    for change in mutant.changes:
        assert (ROOT / "src" / "dustrun" / change.path).read_text().count(change.old) == 1, change
