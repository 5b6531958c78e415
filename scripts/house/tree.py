"""What a rule reads: the files of the project, parsed once, and what it says of them."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

PACKAGE = "src/dustrun"

_JUDGED = (
    *(ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef),
    *(ast.Import, ast.ImportFrom, ast.Call, ast.Assign, ast.Expr),
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One place that breaks a rule, and how to mend it."""

    place: str
    fault: str
    mend: str

    def __str__(self) -> str:
        return f"{self.place}: {self.fault}. {self.mend}"


@dataclass(frozen=True, slots=True)
class Module:
    """One Python file; `path` is relative to the project. `nodes`: those of the kinds that rules judge, found in one
    walk that all rules share."""

    path: str
    text: str
    nodes: tuple[ast.AST, ...]

    @property
    def folder(self) -> str:
        """The folder of the file, as `path`."""
        return self.path.rpartition("/")[0]

    @property
    def stem(self) -> str:
        """The name of the file without its ending."""
        return self.path.rpartition("/")[2].removesuffix(".py")

    def at(self, node: ast.AST) -> str:
        """The place of a node, as editors read it."""
        return f"{self.path}:{getattr(node, 'lineno', 1)}"


@dataclass(slots=True)
class Tree:
    """The project at a root."""

    root: Path
    _modules: dict[str, Module] = field(default_factory=dict)

    def files(self, folder: str, *endings: str) -> Iterator[str]:
        """Paths below a folder, sorted, without what is generated or installed."""
        for path in sorted((self.root / folder).rglob("*")):
            name = path.relative_to(self.root).as_posix()
            if path.suffix in endings and path.is_file() and not ({"__pycache__", ".venv"} & set(path.parts)):
                yield name

    def modules(self, folder: str) -> Iterator[Module]:
        """The Python files below a folder."""
        for name in self.files(folder, ".py"):
            yield self.module(name)

    def module(self, name: str) -> Module:
        """One Python file."""
        if name not in self._modules:
            text = (self.root / name).read_text()
            nodes = tuple(node for node in ast.walk(ast.parse(text)) if isinstance(node, _JUDGED))
            self._modules[name] = Module(name, text, nodes)
        return self._modules[name]


Rule = Callable[[Tree], Iterator[Finding]]


def imports(module: Module) -> Iterator[tuple[ast.AST, str]]:
    """Every full name that a module imports, deferred imports too."""
    for node in module.nodes:
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from ((node, f"{node.module}.{alias.name}") for alias in node.names)
