"""Tests patch nothing of the product: a seam is an object that is handed in."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from house.tree import Finding, Module, Tree, imports

MEND = "Hand in an object at the seam, or put a real server before the one that is asked"
OUR_SETTERS = ("setattr", "delattr", "setitem", "delitem")
_MOCKS = ("unittest.mock", "mock", "pytest_mock")


def no_patches(tree: Tree) -> Iterator[Finding]:
    """No mock, no `monkeypatch.setattr` on what ships, no name of a module of ours set from outside."""
    for folder in ("tests", "testkit", "bench"):
        for module in tree.modules(folder):
            for node, what in _patches(module):
                yield Finding(module.at(node), what, MEND)


def _patches(module: Module) -> Iterator[tuple[ast.AST, str]]:
    for node, name in imports(module):
        if any(name == mock or name.startswith(f"{mock}.") for mock in _MOCKS):
            yield node, f"{name} is imported"
    ours = _names_of_ours(module)
    for node in module.nodes:
        if isinstance(node, ast.Call) and _patches_ours(node, ours):
            yield node, f"{ast.unparse(node.func)} patches {ast.unparse(node.args[0])}"
        for target in node.targets if isinstance(node, ast.Assign) else ():
            if isinstance(target, ast.Attribute) and _root(target) in ours:
                yield node, f"{ast.unparse(target)} is set from outside"


def _names_of_ours(module: Module) -> frozenset[str]:
    """Names at which modules, classes and functions of the product are bound here."""
    found = set()
    for node in module.nodes:
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "dustrun":
            found |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.asname or "dustrun" for alias in node.names if alias.name.split(".")[0] == "dustrun"}
    return frozenset(found)


def _patches_ours(call: ast.Call, ours: frozenset[str]) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name not in OUR_SETTERS or not call.args:
        return False
    target = call.args[0]
    if isinstance(target, ast.Constant):
        return str(target.value).split(".")[0] == "dustrun"
    return _root(target) in ours


def _root(node: ast.expr) -> str:
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""
