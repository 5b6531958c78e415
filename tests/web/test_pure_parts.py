"""What the app does without a page (web/tests): merging, undo, copies without secrets, exact numbers, folded events."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import build_web

from dustrun.services.access.principal import PERMISSIONS
from testkit.e2e.node import npm_install


def test_pure_parts_of_the_app(tmp_path: Path) -> None:
    environment = npm_install(build_web.SOURCES)
    sources = sorted(str(path) for path in (build_web.SOURCES / "tests").glob("*.test.ts"))
    assert len(sources) > 2
    bundle = ["npx", "--no-install", "rolldown", *sources, "--platform", "node", "--dir", str(tmp_path)]
    for command in (bundle, ["node", "--test", str(tmp_path)]):
        done = subprocess.run(
            command, cwd=build_web.SOURCES, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert "# fail 0" in done.stdout
    assert "# tests 0" not in done.stdout


def test_every_permission_is_said_in_plain_words() -> None:
    words = (build_web.SOURCES / "src" / "words.roles.ts").read_text().partition("export const roles")[0]
    said = re.findall(r"^    '?([a-z:]+)'?: '", words, re.MULTILINE)
    assert sorted(said) == sorted(PERMISSIONS)
