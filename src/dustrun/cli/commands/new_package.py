"""`dustrun new-package`: writes a package whose node types an installed Dustrun finds."""

from __future__ import annotations

import keyword
import re
import subprocess
import sys
from pathlib import Path
from string import Template
from typing import Annotated, Final

import typer

from dustrun.cli.http.failures import CliError, Exit
from dustrun.cli.render import output

_NAME: Final = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_TEMPLATES: Final = Path(__file__).parents[1] / "templates" / "package"
_FILES: Final = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "src/{module}/__init__.py": "module.py",
    "src/{module}/actions/__init__.py": "module.py",
    "src/{module}/actions/{module}_get_order.py": "action.py",
    "src/{module}/triggers/__init__.py": "module.py",
    "src/{module}/triggers/{module}_order.py": "trigger.py",
    "src/{module}/connectors/__init__.py": "module.py",
    "src/{module}/connectors/{module}_account.py": "connector.py",
    "tests/test_{module}.py": "test.py",
}


def new_package(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The package's name, in kebab case: acme-shop.")],
    into: Annotated[Path, typer.Option("--into", help="Folder in which the package's folder is made.")] = Path(),
    test: Annotated[
        bool, typer.Option("--test/--no-test", help="Run its tests afterwards, if pytest is there.")
    ] = True,
) -> None:
    """Generate a package with an action, a trigger, a connector type and their tests."""
    module = name.replace("-", "_")
    if not _NAME.fullmatch(name) or keyword.iskeyword(module) or module == "dustrun":
        raise CliError(f'NAME "{name}" is not in kebab case, or is taken.', hint="Like acme-shop.")
    root = into / name
    for path in write(root, name):
        output.say(f"Wrote {root / path}")
    output.say(f"Install it beside the server, and restart that: {sys.executable} -m pip install {root.resolve()}")
    if test:
        raise typer.Exit(_run_tests(root))


def write(root: Path, name: str) -> list[Path]:
    """Writes the files and returns their paths relative to `root`; never overwrites."""
    if root.exists():
        raise CliError(f'"{root}" already exists.', hint="Choose another name, or remove the folder first.")
    words = {"name": name, "module": name.replace("-", "_")}
    written = []
    for path, template in _FILES.items():
        written.append(Path(path.format(**words)))
        file = root / written[-1]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(Template((_TEMPLATES / f"{template}.txt").read_text()).substitute(words))
    return written


def _run_tests(root: Path) -> Exit:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=root, check=False)  # noqa: S603 - our own words, no shell
    return Exit.SUCCESS if done.returncode == 0 else Exit.FAILURE
