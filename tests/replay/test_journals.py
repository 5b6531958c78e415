"""Every journal that a version of ours has left behind is resumed, and ends as it did when it was recorded."""

from __future__ import annotations

from pathlib import Path

import pytest

from dustrun.core.values import exact_json
from engine.conftest import OWN_ACTIONS, Bench
from replay import recorded
from testkit.composition import composed

FILES = sorted(recorded.FOLDER.glob("*/*.json"))


@pytest.mark.parametrize("file", FILES, ids=[f"{file.parent.name}/{file.stem}" for file in FILES])
async def test_a_recorded_run_ends_as_recorded(file: Path, tmp_path: Path, store_url: str) -> None:
    document = exact_json.loads(file.read_text())
    await recorded.put(document, store_url, tmp_path)
    async with composed(tmp_path, database_url=store_url, actions_dir=OWN_ACTIONS) as composition:
        bench = Bench(composition)
        assert await recorded.end_of(bench, document) == document["end"]
        kinds = [kind for kind, _ in await bench.events(document["run"]["id"])]
        assert kinds[: len(document["events"])] == [event["type"] for event in document["events"]]


def test_there_are_recordings() -> None:
    assert {file.parent.name for file in FILES} >= {"0.1.0"}
    assert len(FILES) >= 9
