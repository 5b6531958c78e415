"""`dustrun new-action`: generates an action and its test from a template and runs the contract tests on it."""

from __future__ import annotations

import keyword
import re
import subprocess
import sys
from pathlib import Path
from string import Template
from typing import Annotated

import typer

from dustrun.cli.http.failures import CliError, Exit
from dustrun.cli.render import output

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_TEMPLATES = Path(__file__).parents[2] / "templates"


def new_action(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The action's type, in kebab case: convert-temperature.")],
    family: Annotated[str, typer.Option("--family", help="Folder of the action: data, http, …")],
    root: Annotated[Path, typer.Option("--root", help="Root of the Dustrun checkout.")] = Path(),
    test: Annotated[
        bool, typer.Option("--test/--no-test", help="Run its test and the contract tests afterwards.")
    ] = True,
) -> None:
    """Generate a new action and its test."""
    for word, what in ((name, "NAME"), (family, "--family")):
        if not _NAME.fullmatch(word) or keyword.iskeyword(word):
            raise CliError(f'{what} "{word}" is not in kebab case.', hint="Like convert-temperature.")
    if not (root / "src/dustrun/actions").is_dir():
        raise CliError(
            f'"{root}" is not the root of a Dustrun checkout.', hint="Run the command in the checkout, or give --root."
        )
    action_path, test_path = write(root, name, family)
    output.say(f"Wrote {action_path}\nWrote {test_path}")
    if test:
        raise typer.Exit(_run_contract(root, name, test_path))
    output.say("Fill in the action, then run: scripts/test tests/contract " + str(test_path))


def write(root: Path, name: str, family: str) -> tuple[Path, Path]:
    """Writes both files and returns their paths relative to `root`; never overwrites."""
    module, package = name.replace("-", "_"), family.replace("-", "_")
    words = {
        "type": name,
        "module": module,
        "package": package,
        "title": name.replace("-", " ").capitalize(),
    }
    paths = Path(f"src/dustrun/actions/{package}/{module}.py"), Path(f"tests/actions/{package}/test_{module}.py")
    for path in paths:
        if (root / path).exists():
            raise CliError(f'"{path}" already exists.', hint="Choose another name, or remove the file first.")
    for path, template in zip(paths, ("action.py.txt", "test.py.txt"), strict=True):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(Template((_TEMPLATES / template).read_text()).substitute(words))
    marker = root / paths[0].parent / "__init__.py"
    if not marker.exists():
        marker.write_text(f'"""Actions of the family {family}."""\n')
    return paths


def _run_contract(root: Path, name: str, test_path: Path) -> Exit:
    contract = [str(path) for path in [Path("tests/contract")] if (root / path).exists()]
    chosen = f"{name} or {test_path.stem}"
    command = [sys.executable, "-m", "pytest", "-k", chosen, str(test_path), *contract]
    done = subprocess.run(command, cwd=root, check=False)  # noqa: S603 - our own words, no shell
    return Exit.SUCCESS if done.returncode == 0 else Exit.FAILURE
