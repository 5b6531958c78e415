"""Runs the rules of scripts/house on the project and prints what breaks them: `house_rules.py [ROOT]`."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

from house import code, commits, folders, patching, words
from house.tree import Rule, Tree

RULES: tuple[Rule, ...] = (
    code.constructors,
    code.typed_parts,
    code.thin_routes,
    code.rooms_without_money,
    folders.small_folders,
    folders.mirrored_tests,
    folders.named_tests,
    patching.no_patches,
    words.no_private_words,
    words.no_private_file_names,
    commits.commit_messages,
)


def main(root: Path) -> int:
    """Prints every finding; 1 when there is one."""
    tree = Tree(root)
    found = [f"{rule.__name__}: {finding}" for rule in RULES for finding in rule(tree)]
    print("\n".join(found) or f"{len(RULES)} rules hold.")
    return 1 if found else 0


if __name__ == "__main__":
    gc.disable()  # it searches millions of nodes in vain, for a third of the time
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent))
