"""How code is shaped: constructors, the parts of the API, thin routes, rooms without money."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from house.tree import PACKAGE, Finding, Module, Tree, imports

Function = ast.FunctionDef | ast.AsyncFunctionDef

MAX_ARGUMENTS = 7
# Only an __init__ that is written out counts: a dataclass holds fields, its constructor is their list.

MAX_ROUTE_STATEMENTS = 15
ROUTES = (f"{PACKAGE}/api/routes", f"{PACKAGE}/operations")

WITHOUT_MONEY = ("assistant", "api/mcp", "sdk/mcp")
MONEY = ("dustrun.services.outbox", "dustrun.services.wallets", "dustrun.wallets", "dustrun.chain")

PARTS = f"{PACKAGE}/operations/declaration/parts.py"


def constructors(tree: Tree) -> Iterator[Finding]:
    """A constructor has at most seven arguments."""
    for module in tree.modules(PACKAGE):
        for owner, init in _constructors(module):
            if (count := _arguments(init)) > MAX_ARGUMENTS:
                mend = "Hand in one object that holds what belongs together"
                yield Finding(module.at(init), f"the constructor of {owner} has {count} arguments of 7", mend)


def _constructors(module: Module) -> Iterator[tuple[str, Function]]:
    for node in module.nodes:
        if isinstance(node, ast.ClassDef):
            for one in node.body:
                if isinstance(one, ast.FunctionDef) and one.name == "__init__":
                    yield node.name, one


def _arguments(function: Function) -> int:
    given = function.args
    return len(given.posonlyargs) + len(given.args) + len(given.kwonlyargs) - 1


def typed_parts(tree: Tree) -> Iterator[Finding]:
    """No field of the API's Parts is `Any`, which blinds the type checker for every route."""
    yield from _missing(tree, PARTS)
    if not (tree.root / PARTS).exists():
        return
    module = tree.module(PARTS)
    for node in _fields_of(module, "Parts"):
        if _is_any(node.annotation):
            yield Finding(
                module.at(node), f"Parts.{ast.unparse(node.target)} is Any", "Give it the type of its service"
            )


def _fields_of(module: Module, owner: str) -> Iterator[ast.AnnAssign]:
    for node in module.nodes:
        if isinstance(node, ast.ClassDef) and node.name == owner:
            yield from (one for one in node.body if isinstance(one, ast.AnnAssign))


def _is_any(annotation: ast.expr) -> bool:
    if isinstance(annotation, ast.BinOp):
        return _is_any(annotation.left) or _is_any(annotation.right)
    return isinstance(annotation, ast.Name) and annotation.id == "Any"


def thin_routes(tree: Tree) -> Iterator[Finding]:
    """A route parses, calls a service and shapes the answer: few statements, and of storage only its row classes."""
    for room in ROUTES:
        yield from _missing(tree, room)
    # `declaration` and `shapes` are no routes
    for module in (module for module in map(tree.module, tree.files(PACKAGE, ".py")) if module.folder in ROUTES):
        for node in module.nodes:
            if isinstance(node, Function) and (count := _statements(node)) > MAX_ROUTE_STATEMENTS:
                fault = f"{node.name} has {count} statements of {MAX_ROUTE_STATEMENTS}"
                yield Finding(module.at(node), fault, "Move what decides into a service")
        for node, name in imports(module):
            if name.startswith("dustrun.storage.") and not name.rpartition(".")[2][0].isupper():
                yield Finding(module.at(node), f"a route imports {name}", "Call the service that reads it")


def _statements(function: Function) -> int:
    return sum(isinstance(node, ast.stmt) for node in ast.walk(function)) - 1


def rooms_without_money(tree: Tree) -> Iterator[Finding]:
    """The assistant and the MCP server reach no outbox, wallet or chain, under no name."""
    for room in WITHOUT_MONEY:
        yield from _missing(tree, f"{PACKAGE}/{room}")
        for module in tree.modules(f"{PACKAGE}/{room}"):
            for node, name in imports(module):
                if any(name == money or name.startswith(f"{money}.") for money in MONEY):
                    mend = "Ask for it as a person would: by a run that a policy judges"
                    yield Finding(module.at(node), f"{room} imports {name}", mend)


def _missing(tree: Tree, path: str) -> Iterator[Finding]:
    """A rule about a place that was moved or renamed would hold without looking at anything."""
    if not (tree.root / path).exists():
        yield Finding(path, "a rule names this place and it does not exist", "Name where its code is now")
