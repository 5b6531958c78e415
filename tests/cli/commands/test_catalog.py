"""`dustrun catalog` and known services, against a real server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from served import Served, served


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("catalog") / "data") as server:
        yield server


def test_a_known_service_is_found_and_shown(server: Served) -> None:
    listed = server.dustrun("catalog", "services", "merge", "pull")
    assert (listed.returncode, "github" in listed.stdout, "stripe" in listed.stdout) == (0, True, False)
    shown = server.dustrun("catalog", "service", "github")
    assert "issues-create: Open an issue" in shown.stdout
    assert "personal access token" in shown.stdout
    assert "dustrun catalog add github" in shown.stderr
    assert "--server-url ADDRESS" in server.dustrun("catalog", "service", "jira").stderr


@pytest.mark.parametrize(("name", "told"), [("githb", 'Did you mean "github"?'), ("jira", "atlassian.net")])
def test_a_service_that_cannot_be_added_says_why(server: Served, name: str, told: str) -> None:
    done = server.dustrun("catalog", "add", name)
    assert done.returncode != 0
    assert told in done.stderr
    assert server.json("catalog", "list")["items"] == []
