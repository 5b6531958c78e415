"""The ways to a running server that a release is tried in, and what else it is held against: the image's file, other
processors, the documentation of every version.
"""

from __future__ import annotations

import json
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import find_pythons
from serving import free_port, serving

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "constraints.txt"
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
_ARM = "aarch64-unknown-linux-gnu"
COMPILED = "quickjs"
"""The one package that is compiled on ARM; the image's first stage has a compiler for it."""
_WORKFLOW = {
    "nodes": {
        "root": {"type": "manual", "children": ["answer"]},
        "answer": {"type": "respond", "payload": {"body": {"sum": "{{$trigger.body.a + $trigger.body.b}}"}}},
    },
    "triggerNodeIds": ["root"],
}


class Failed(Exception):
    """A step of the release failed; says why."""


def run(*words: str | Path, cwd: Path = ROOT, **environment: str) -> str:
    """What a command writes; raises `Failed` with its last words if it fails."""
    command = [str(word) for word in words]
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise Failed(f"{' '.join(command)}:\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout


def try_it(start: Sequence[str | Path], folder: Path, version: str) -> None:
    """Starts a server with this command in an empty folder and runs a workflow."""
    if (told := run(*start, "--version", cwd=folder, HOME=str(folder)).strip()) != f"dustrun {version}":
        raise Failed(f"`dustrun --version` says {told}.")
    data = folder / "data"
    data.mkdir()
    settings = {"HOME": str(folder), "DUSTRUN_MASTER_KEY_FILE": str(folder / "master.key")}
    with serving(data, free_port(), settings, start) as server:

        def call(path: str, body: Any) -> Any:
            headers = {"Authorization": f"Bearer {server.key}", "Content-Type": "application/json"}
            request = urllib.request.Request(server.url + path, json.dumps(body).encode(), headers)
            try:
                with urllib.request.urlopen(request, timeout=60) as response:
                    return json.load(response)
            except urllib.error.HTTPError as error:
                raise Failed(f"{path}: {error} {error.read().decode()}") from None

        made = call("/v1/workflows", {"name": "Sum", "description": "Adds.", "definition": _WORKFLOW})["data"]
        answer = call(f"/v1/workflows/{made['id']}/run-sync", {"payload": {"a": 2, "b": 3}})
        if answer["data"]["response"]["body"] != {"sum": 5}:
            raise Failed(f"The workflow answered {answer}.")
        asked = urllib.request.Request(server.url, headers={"Accept": "text/html"})
        with urllib.request.urlopen(asked, timeout=60) as page:
            if b"<!doctype html>" not in page.read().lower():
                raise Failed("The web app is not served.")


def with_uvx(tools: Path, folder: Path, wheel: Path, version: str, python: str) -> None:
    """As README.md says: `uvx --from` a wheel file, with nothing installed before."""
    folder.mkdir()
    start = (tools / "uvx", "--python", python, "--constraints", CONSTRAINTS, "--from", wheel, "dustrun")
    try_it(start, folder, version)


def with_pipx(tools: Path, folder: Path, wheel: Path, version: str, python: str) -> None:
    """As README.md says: `pipx install` a wheel file; the command is then where pipx puts it."""
    folder.mkdir()
    run(
        *(tools / "pipx", "install", "--python", python, "--pip-args", f"-c {CONSTRAINTS}", wheel),
        PIPX_HOME=str(folder / "pipx"),
        PIPX_BIN_DIR=str(folder / "bin"),
    )
    try_it((folder / "bin" / "dustrun",), folder, version)


def image_faults(tools: Path, dockerfile: Path = DOCKERFILE) -> list[str]:
    """What hadolint says of the Dockerfile, of whatever weight."""
    words = [str(tools / "hadolint"), "--no-color", "--failure-threshold", "style", str(dockerfile)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    found = (done.stdout + done.stderr).splitlines()
    return found if found or done.returncode == 0 else [f"hadolint ended with {done.returncode}."]


def arm_wheels(tools: Path, pythons: Sequence[find_pythons.Python], project: Path = ROOT / "pyproject.toml") -> str:
    """That the tested versions can be had for 64-bit ARM, and how many they are; raises `Failed` if another package
    than `COMPILED` has no wheel there."""
    found = set[int]()
    for python in pythons:
        of_arm = ("--python-version", python.minor, "--python-platform", _ARM)
        wheels = ("--only-binary", ":all:", "--no-binary", COMPILED)
        more = ("--extra", "cluster", "--extra", "assistant", "--extra", "queues", "--extra", "email")
        told = run(
            *(tools / "uv", "pip", "compile", "--no-header", "--no-annotate", project, "--constraints", CONSTRAINTS),
            *(*of_arm, *wheels, *more),
        )
        found.add(sum("==" in line for line in told.splitlines()))
    return " or ".join(map(str, sorted(found)))


def kept_site(out: Path, folder: Path, version: str) -> str:
    """Builds the documentation and keeps it under its version beside the others; which are there."""
    run(ROOT / "scripts" / "site", "--out", out, "--keep", folder)
    kept = [str(one["version"]) for one in json.loads((folder / "versions.json").read_text())]
    if version not in kept or not (folder / version / "docs" / "tour.html").is_file():
        raise Failed(f"{folder} does not have the site of {version}.")
    return f"{', '.join(kept)} in {folder}"
