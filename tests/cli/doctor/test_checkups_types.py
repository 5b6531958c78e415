"""Types that were there when a workflow was saved, and are gone."""

from __future__ import annotations

import shutil
from pathlib import Path

from dustrun import catalog
from dustrun.cli.doctor.checkups_types import types
from dustrun.settings import Settings
from dustrun.storage.db.database import Database
from testkit.composition import Composition, composed

OWN = Path(__file__).parents[3] / "testkit/own_actions/trial.py"


def uses_trial() -> dict[str, object]:
    trial = {"type": "trial", "payload": {}}
    nodes = {"root": {"type": "manual", "children": ["try"]}, "try": trial}
    return {"nodes": nodes, "triggerNodeIds": ["root"]}


async def test_workflows_and_connectors_of_removed_types_are_named(tmp_path: Path) -> None:
    own, data = tmp_path / "own", tmp_path / "data"
    own.mkdir()
    data.mkdir()
    shutil.copy(OWN, own)
    shutil.copy(Path(catalog.__file__).parent / "connectors" / "http_bearer.py", own / "shop.py")
    async with composed(data, actions_dir=own) as server:
        await _fill(server)
    settings = Settings(data_dir=data, actions_dir=own, master_key_file=tmp_path / "master.key")
    database = Database(f"sqlite:///{data / 'dustrun.db'}")
    try:
        [whole] = types(settings, database)
        (own / "trial.py").unlink()
        (own / "shop.py").unlink()
        [left] = types(settings, database)
    finally:
        database.close()
    assert whole.state == "ok"
    assert (left.state, left.says) == (
        "bad",
        'nothing provides "shop", used by connector "Shop"; '
        'nothing provides "trial", used by "Drafted" (draft), "Orders" (live)',
    )
    assert "Install the package again" in (left.mend or "")


async def _fill(server: Composition) -> None:
    await server.owner.create_workflow(uses_trial(), name="Drafted")
    orders = await server.owner.create_workflow(uses_trial(), name="Orders")
    assert (await server.owner.post(f"/v1/workflows/{orders['id']}/publish")).status == 200
    made = await server.owner.post(
        "/v1/connectors",
        {"type": "shop", "name": "Shop", "data": {"token": "t" * 24}, "allowedHosts": ["shop.example.com"]},
    )
    assert made.status in (200, 201), made.body


def test_names_are_those_that_are_loaded() -> None:
    nodes, stored = catalog.names()
    loaded = catalog.load()
    assert {*loaded.actions, *loaded.triggers} <= nodes
    assert set(loaded.connectors) <= stored
