"""Which programs connectors may start: the operator's list, a command line an entry."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence

from dustrun.records import dataclass

_MORE = "*"
_VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=\*")


@dataclass(frozen=True, slots=True)
class CommandRule:
    """One command line. `takes_more`: further arguments may follow; `variables`: those that a connector may set."""

    words: tuple[str, ...]
    takes_more: bool
    variables: frozenset[str]

    def allows(self, words: Sequence[str], env: Mapping[str, str]) -> bool:
        """Whether a connector may start this."""
        if not env.keys() <= self.variables:
            return False
        own = len(self.words)
        return tuple(words[:own]) == self.words and (self.takes_more or len(words) == own)


def parse_command(entry: str) -> CommandRule:
    """Reads an entry: `TOKEN=* /usr/bin/server --flag *`. Raises `ValueError`."""
    words = shlex.split(entry)
    variables = []
    while words and (found := _VARIABLE.fullmatch(words[0])):
        variables.append(found[1])
        words = words[1:]
    takes_more = bool(words) and words[-1] == _MORE
    own = tuple(words[:-1] if takes_more else words)
    if not own or _MORE in own:
        raise ValueError(f'"{entry}" is no command line like `/usr/bin/server --flag`, or with ` *` at its end')
    return CommandRule(own, takes_more, frozenset(variables))


def is_allowed_command(rules: Iterable[CommandRule], words: Sequence[str], env: Mapping[str, str]) -> bool:
    """Whether one of the rules allows it."""
    return any(rule.allows(words, env) for rule in rules)
