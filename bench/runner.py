"""Runs one module of this folder and writes what it found to `bench/results/<name>.json`; of another `store` than
SQLite to `<name>_<store>.json`, of a variant that the module names to `<name>_<variant>.json`."""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import secrets
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import machine

FOLDER = Path(__file__).parent


def names(kind: str) -> list[str]:
    """The names of all modules of a kind: `crash` for `soak_crash.py`."""
    return sorted(path.stem.removeprefix(f"{kind}_") for path in FOLDER.glob(f"{kind}_*.py"))


def main(kind: str, arguments: Sequence[str]) -> int:
    """The command: `NAME [--scale N] [--seed S] [--KEY VALUE …]`; 0 when nothing failed. `soak all` begins with
    `scripts/test --all` and stops there if a test fails."""
    asked = _parse(kind, arguments)
    if asked.name == ["all"]:
        return _run_all(kind, asked)
    return _run(kind, asked.name or names(kind), asked)


def _run_all(kind: str, asked: argparse.Namespace) -> int:
    missing = [
        f"--{option} ({name})" for name in names(kind) for option in _needed(kind, name) - _options(asked).keys()
    ]
    if missing:
        print(f"scripts/{kind} all needs {', '.join(missing)}", file=sys.stderr)
        return 2
    suite = subprocess.run([FOLDER.parent / "scripts" / "test", "--all"], check=False)
    return suite.returncode or _run(kind, names(kind), asked)


def _parameters(kind: str, name: str) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(importlib.import_module(f"bench.{kind}_{name}").run).parameters)


def _needed(kind: str, name: str) -> set[str]:
    """Options without a default."""
    found = _parameters(kind, name)
    return {key for key, one in found.items() if one.default is one.empty} - {"scale", "seed"}


def _options(asked: argparse.Namespace) -> dict[str, Any]:
    return dict(pair.split("=", 1) for pair in asked.set)


def _run(kind: str, chosen: Sequence[str], asked: argparse.Namespace) -> int:
    failed = [name for name in chosen if not _run_one(kind, name, asked)]
    if failed:
        print(f"Failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _parse(kind: str, arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"scripts/{kind}", description=f"Names: {', '.join(names(kind)) or 'none'}")
    parser.add_argument("name", nargs="*" if kind == "bench" else "+", metavar="NAME", help="which ones")
    parser.add_argument("--scale", type=int, help="how large; each module has its own default")
    parser.add_argument("--seed", type=int, help="of the randomness; a random one is chosen and told")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="the same as --KEY VALUE")
    parser.add_argument("--quick", action="store_true", help="small, to see that it works; for those that can")
    parser.add_argument("--no-write", action="store_true", help="print the result only")
    asked, more = parser.parse_known_args(arguments)
    if len(more) % 2 or not all(word.startswith("--") for word in more[::2]):
        parser.error(f"these are no pairs of --name value: {' '.join(more)}")
    asked.set += [f"{name[2:]}={value}" for name, value in zip(more[::2], more[1::2], strict=True)]
    if kind == "soak" and asked.name == ["all"]:
        return asked
    for name in asked.name:
        if name not in names(kind):
            parser.error(f"there is no {kind} named {name!r}; there are: {', '.join(names(kind)) or 'none'}")
    return asked


def _run_one(kind: str, name: str, asked: argparse.Namespace) -> bool:
    seed = secrets.randbelow(2**31) if asked.seed is None else asked.seed
    print(f"{kind} {name}, seed {seed} …", file=sys.stderr)
    module = importlib.import_module(f"bench.{kind}_{name}")
    started_at, started = datetime.now(UTC), time.monotonic()
    options = _options(asked)
    if asked.name == ["all"]:  # what one module takes, another does not know
        options = {key: value for key, value in options.items() if key in _parameters(kind, name)}
    if asked.quick:
        if "quick" not in inspect.signature(module.run).parameters:
            raise SystemExit(f"{kind} {name} has no --quick; give it a small --scale")
        options["quick"] = True
    found: dict[str, Any] = module.run(asked.scale, seed, **options)
    variant = found.pop("variant", options.get("store", "sqlite"))
    result = {
        "name": name,
        "commit": machine.commit(FOLDER.parent),
        "startedAt": started_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "seconds": round(time.monotonic() - started, 1),
        "scale": asked.scale,
        "seed": seed,
        **machine.describe(),
        "result": found,
    }
    _write(name if variant == "sqlite" else f"{name}_{variant}", result, to_file=not asked.no_write)
    return not found.get("failures")


def _write(name: str, result: dict[str, Any], *, to_file: bool) -> None:
    text = json.dumps(result, indent=2, default=str)
    print(text)
    if to_file:
        results = FOLDER / "results"
        results.mkdir(exist_ok=True)
        (results / f"{name}.json").write_text(text + "\n")
