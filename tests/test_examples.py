"""Every workflow of `examples/` is valid and runs: the dry run sends nothing and ends well."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from served import ROOT, Outside, Served, outside, served

EXAMPLES = sorted((ROOT / "examples").glob("*.json"))
_WRITTEN_ADDRESS = "http://127.0.0.1:8099"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    with outside(tmp_path_factory.mktemp("outside")) as found:
        yield found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, world: Outside) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("data"), outbound_allow=world.address) as found:
        yield found


@pytest.fixture
def at_hand(tmp_path: Path, world: Outside) -> Any:
    """The example with the address of this test's outside world in it."""

    def write(example: Path) -> str:
        file = tmp_path / example.name
        file.write_text(example.read_text().replace(_WRITTEN_ADDRESS, world.url))
        return str(file)

    return write


def _effects(output: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return found


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_is_told_and_valid(example: Path, server: Served) -> None:
    document = json.loads(example.read_text())
    assert document.keys() == {"name", "description", "definition", "payload"}
    assert server.json("workflow", "validate", str(example)) == {"valid": True, "errors": [], "warnings": []}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_simulates_and_sends_nothing(example: Path, server: Served, world: Outside, at_hand: Any) -> None:
    before = world.notices()
    done = server.dustrun("run", at_hand(example), "--simulate", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [request for request in _effects(done.stdout)["effects"]["requests"] if request["sent"]] == []
    assert world.notices() == before


def test_the_price_check_sends_one_notice_live(server: Served, world: Outside, at_hand: Any) -> None:
    before = len(world.notices())
    done = server.dustrun("run", at_hand(ROOT / "examples/price-check.json"), "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert world.notices()[before:] == [
        {"text": "ETH is at 3127.418290517364281904 USD.", "usd": 3127.418290517364281904}
    ]


def test_the_order_notices_go_out_once_each(server: Served, world: Outside, at_hand: Any) -> None:
    before = len(world.notices())
    done = server.dustrun("run", at_hand(ROOT / "examples/order-notices.json"), "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(world.notices()[before:], key=lambda notice: str(notice["order"])) == [
        {"order": "o-1", "text": "tea: 12.5 USD"},
        {"order": "o-3", "text": "cup: 7.99 USD"},
    ]
