"""Words that only their authors knew. They may not come back: not in names, and some not in prose either."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterable, Iterator, Mapping

from house.tree import PACKAGE, Finding, Module, Tree

CODE = (PACKAGE, "tests", "testkit", "bench", "scripts")

PROSE = {  # a private word: what the field says
    "veil": "redact",
    "unveil": "unseal",
    "errand": "effect",
    "outlook": "forecast",
    "foresight": "forecast",
    "foreseen": "forecast",
    "lane": "queue",
    "desk": "operations",
    "teller": "publisher",
    "wish": "intent",
}
NAMES = {
    **PROSE,
    "stand": "status",
    "course": "state",
    "telling": "events",
    "takeup": "recovery",
    "carrying": "tasks",
    "settling": "results",
    "flushing": "commit",
}
"""In prose these have common meanings (`it stands for`, `of course`), as names they have none."""

FILES = frozenset(
    {
        "apart",
        "deciding",
        "extreme",
        "filling",
        "first_rows",
        "following",
        "heads",
        "holding",
        "lanes",
        "looks",
        "places",
    }
    | {"plain", "several", "shield", "starting", "together", "turns", "unveiling"}
)
"""Names of modules that said nothing of what is in them."""

_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_HOST = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+){2,}")
_ENDINGS = ("", "s", "es", "ed", "ing")


def no_private_words(tree: Tree) -> Iterator[Finding]:
    """No private word in the names of code, in comments and docstrings, in pages."""
    for place, word, mend in _all_words(tree):
        yield Finding(place, f'"{word}" is a private word', f"Say {mend}, or what it is here")


def no_private_file_names(tree: Tree) -> Iterator[Finding]:
    """No module has the name of a private word, or an old name that said nothing."""
    for module in tree.modules(PACKAGE):
        if module.stem in FILES or any(word in _NAMES for word in _parts(module.stem)):
            yield Finding(module.path, "its name is a private word", "Name it for what is in it, as the field does")


def _all_words(tree: Tree) -> Iterator[tuple[str, str, str]]:
    """Place, private word and the field's word of everything that is found."""
    for folder in CODE:
        for module in tree.modules(folder):
            if not module.path.startswith("scripts/house") and _ANY.search(module.text):
                yield from _of_module(module)
    pages = [*tree.files("docs", ".md"), *sorted(path.name for path in tree.root.glob("*.md"))]
    for page in pages:
        for number, line in enumerate((tree.root / page).read_text().splitlines(), 1):
            yield from _among(re.findall(r"[a-z]+", _HOST.sub("", line.lower())), _PROSE, f"{page}:{number}")


def _of_module(module: Module) -> Iterator[tuple[str, str, str]]:
    """Names, comments and docstrings; the name of a test is a sentence."""
    for token in tokenize.generate_tokens(io.StringIO(module.text).readline):
        place = f"{module.path}:{token.start[0]}"
        if token.type == tokenize.NAME:
            yield from _among(_parts(token.string), _PROSE if token.string.startswith("test_") else _NAMES, place)
        elif token.type == tokenize.COMMENT:
            yield from _among(re.findall(r"[a-z]+", token.string.lower()), _PROSE, place)
    for node in module.nodes:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield from _among(re.findall(r"[a-z]+", node.value.value.lower()), _PROSE, module.at(node))


def _among(parts: Iterable[str], words: Mapping[str, tuple[str, str]], place: str) -> Iterator[tuple[str, str, str]]:
    for part in parts:
        if part in words:
            yield (place, *words[part])


def _parts(name: str) -> list[str]:
    return [part.lower() for part in _PART.findall(name)]


def _forms(words: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    return {word + ending: (word, mend) for word, mend in words.items() for ending in _ENDINGS}


_PROSE, _NAMES = _forms(PROSE), _forms(NAMES)
_ANY = re.compile("|".join(NAMES), re.IGNORECASE)
