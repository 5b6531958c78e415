"""A command runs only as the operator has written it."""

from __future__ import annotations

import pytest

from dustrun.outbound.commands import parse_command


@pytest.mark.parametrize(
    ("entry", "words", "env", "allowed"),
    [
        ("npx -y server", ["npx", "-y", "server"], {}, True),
        ("npx -y server", ["npx", "-y", "server", "/etc"], {}, False),
        ("npx -y server", ["npx", "-y"], {}, False),
        ("npx -y server", ["npx", "-y", "other"], {}, False),
        ("npx -y server *", ["npx", "-y", "server", "/a", "/b"], {}, True),
        ("npx -y server *", ["npx", "-y", "server"], {}, True),
        ("npx -y server *", ["npx", "-y", "serverx"], {}, False),
        ("'/opt/my server' --x", ["/opt/my server", "--x"], {}, True),
        ("server", ["server"], {"TOKEN": "secret"}, False),
        ("TOKEN=* server", ["server"], {"TOKEN": "secret"}, True),
        ("TOKEN=* server", ["server"], {}, True),
        ("TOKEN=* server", ["server"], {"LD_PRELOAD": "secret"}, False),
        ("A=* B=* server *", ["server", "x"], {"A": "secret", "B": "secret"}, True),
    ],
)
def test_a_line_is_allowed_as_written(entry: str, words: list[str], env: dict[str, str], allowed: bool) -> None:
    assert parse_command(entry).allows(words, env) is allowed


@pytest.mark.parametrize("entry", ["", " ", "*", "TOKEN=*", "npx * server", "'open"])
def test_what_is_no_line_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match=r"command line|No closing"):
        parse_command(entry)
