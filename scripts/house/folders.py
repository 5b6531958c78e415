"""How files lie: few in a folder, and tests where one looks for them."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator, Mapping

from house.tree import PACKAGE, Finding, Module, Tree

MAX_FILES = 15
# Where every file is one entry of a catalogue that a folder walk reads; `actions` has files beside its entries.
CATALOGUES = (
    *("api/routes", "connectors", "core/expression/functions", "operations"),
    *("storage/migrations/versions", "triggers"),
)

# Suites that prove one property of the whole product.
SUITES = frozenset({"contract", "crash", "e2e", "properties", "replay", "secrecy", "simulation", "web"})
# Rooms whose tests are a suite or a whole start.
PROVED_BY = {"app": "tests/test_up.py", "connectors": "tests/contract/test_every_connector.py"}


def small_folders(tree: Tree) -> Iterator[Finding]:
    """A folder has at most fifteen files besides the entries of a catalogue."""
    count = Counter(module.folder for module in tree.modules(PACKAGE) if not _is_entry(module))
    for folder, files in sorted(count.items()):
        if files > MAX_FILES:
            yield Finding(folder, f"{files} files of {MAX_FILES}", "Make rooms that are named for what they do")


def _is_entry(module: Module) -> bool:
    folder = module.folder.removeprefix(f"{PACKAGE}/")
    return module.stem == "__init__" or folder in CATALOGUES or (folder.startswith("actions/") and _is_action(module))


def _is_action(module: Module) -> bool:
    decorators = (one for node in module.nodes for one in getattr(node, "decorator_list", ()))
    calls = (one.func if isinstance(one, ast.Call) else one for one in decorators)
    return any(isinstance(call, ast.Name) and call.id == "action" for call in calls)


def mirrored_tests(tree: Tree, proved_by: Mapping[str, str] = PROVED_BY) -> Iterator[Finding]:
    """A folder of tests has the name of a folder of src, or is a suite; each top-level folder of src has its tests."""
    for folder in sorted({_under(name, "tests") for name in tree.files("tests", ".py")} - {""}):
        if folder.split("/")[0] not in SUITES and not (tree.root / PACKAGE / folder).is_dir():
            yield Finding(
                f"tests/{folder}", f"there is no {PACKAGE}/{folder}", "Move it with the folder that it proves"
            )
    for room in sorted({_under(name, PACKAGE).split("/")[0] for name in tree.files(PACKAGE, ".py")} - {""}):
        own = any("/test_" in name for name in tree.files(f"tests/{room}", ".py"))
        if not own and not (tree.root / proved_by.get(room, "-")).exists():
            yield Finding(f"{PACKAGE}/{room}", f"there is no test in tests/{room}", "Write one there")


def _under(name: str, folder: str) -> str:
    return name.removeprefix(f"{folder}/").rpartition("/")[0]


def named_tests(tree: Tree) -> Iterator[Finding]:
    """A test with the name of a module of its layer lies in the mirror of that module's folder, or above it."""
    homes: dict[tuple[str, str], list[str]] = {}
    for module in tree.modules(PACKAGE):
        folder = _under(module.path, PACKAGE)
        homes.setdefault((folder.split("/")[0], module.stem), []).append(folder)
    for name in tree.files("tests", ".py"):
        folder, stem = _under(name, "tests"), name.rpartition("/")[2].removesuffix(".py").removeprefix("test_")
        known = homes.get((folder.split("/")[0], stem), ())
        if known and folder and not any(f"{home}/".startswith(f"{folder}/") for home in known):
            mend = f"Move it to tests/{known[0]}, or name it for what it proves"
            yield Finding(name, f"{stem}.py lies in {PACKAGE}/{known[0]}", mend)
