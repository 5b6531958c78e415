"""Builds the web app into src/dustrun/web when its sources have changed: `scripts/build_web.py [--hash]`.

The folder has a stamp: the hash of everything that the app is built from. `scripts/up`, the tests and the hook that
makes the wheel call `build`; none of them builds twice.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES, BUILT = ROOT / "web", ROOT / "src" / "dustrun" / "web"
STAMP = "stamp.txt"
_LEFT_OUT = frozenset({"node_modules", "dist", "tests"})
COMMAND = 'source "$0" web >&2 && cd web && exec npx --no-install vite build --logLevel warn --outDir "$1"'


class NotBuilt(Exception):
    """The app could not be built; says why."""


def wanted() -> str:
    """The hash of what the app is built from."""
    digest = hashlib.sha256()
    for path in sorted(_sources(SOURCES)):
        digest.update(f"{path.relative_to(SOURCES)}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _sources(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.is_dir() and path.name not in _LEFT_OUT:
            yield from _sources(path)
        elif path.is_file() and not path.name.endswith((".d.ts", ".log")):  # types leave nothing in what is built
            yield path


def is_fresh() -> bool:
    """Whether the built app is that of the sources; a tree without sources has what it was released with."""
    stamp = BUILT / STAMP
    return not SOURCES.is_dir() or (stamp.is_file() and stamp.read_text().strip() == wanted())


def build() -> bool:
    """Builds the app unless it is fresh; says whether it did. One process at a time, and none installs npm packages
    meanwhile: `npm ci` empties the folder that another one is filling."""
    if is_fresh():
        return False
    tools = ROOT / ".tools"
    tools.mkdir(exist_ok=True)
    with (tools / "npm.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if is_fresh():
            return False
        _build(tools / "web")
        return True


def _build(fresh: Path) -> None:
    """Builds beside, and then changes the folders: a server that runs keeps a whole app."""
    stamp = wanted()
    shutil.rmtree(fresh, ignore_errors=True)
    command = ["bash", "-c", COMMAND, str(ROOT / "scripts" / "node-setup"), str(fresh)]
    try:
        done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False)
    except OSError as error:
        raise NotBuilt(str(error)) from None
    if done.returncode != 0:
        raise NotBuilt((done.stdout + done.stderr).strip()[-2000:])
    (fresh / STAMP).write_text(f"{stamp}\n")
    shutil.rmtree(BUILT, ignore_errors=True)
    fresh.rename(BUILT)


def main() -> int:
    """The command; with `--hash` nothing is built."""
    parser = argparse.ArgumentParser(prog="scripts/build_web.py", description="Build the web app.")
    parser.add_argument("--hash", action="store_true", help="only print the hash of what the app is built from")
    if parser.parse_args().hash:
        print(wanted())
        return 0
    try:
        print("The web app is built." if build() else "The web app is up to date.")
    except NotBuilt as error:
        print(f"The web app was not built: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
