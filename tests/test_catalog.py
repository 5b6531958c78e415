"""What the catalogue finds, and how it tells of files that cannot be used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from dustrun import catalog
from dustrun.core.workflow.control import CONTROL
from dustrun.errors import Code, Invalid, NotFound

SOURCE = Path(catalog.__file__).parent
CATALOG = catalog.load()

FILE = '''"""Says hello.

To whoever asks.
"""

from pydantic import Field
from dustrun.sdk import Context, Effect, Fields, action


class Input(Fields):
    """Whom."""

    who: str = Field(description="Whom.")


class Output(Fields):
    """What."""

    the_text: str = Field(description="What.")


@action(
    effect=Effect.PURE,
    input=Input,
    output=Output,
    example_input={"who": "you"},
    example_output={"theText": "hello you"},
)
def hello(input: Input, ctx: Context) -> Output:
    """Says it."""
    return Output(the_text=f"hello {input.who}")
'''

DECLARES = tuple(
    f"@{kind}(" for kind in ("action", "manual", "webhook", "timed", "polled", "streamed", "chain", "internal")
)


def load_with(folder: Path, **files: str) -> catalog.Catalog:
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return catalog.load(folder)


def test_every_file_of_the_tree_is_found() -> None:
    for group, found in (("actions", CATALOG.actions), ("triggers", CATALOG.triggers)):
        declaring = [
            path
            for path in (SOURCE / group).rglob("*.py")
            if any(line.startswith(DECLARES) for line in path.read_text().splitlines())
        ]
        hidden = {catalog.IMPORTED} if group == "actions" else set()
        assert {path.stem.replace("_", "-") for path in declaring} == {*found, *hidden}
    assert catalog.IMPORTED not in CATALOG.actions
    assert CATALOG.actions["shop.list-orders"].type == catalog.IMPORTED


def test_families_are_folders() -> None:
    assert {action.family for action in CATALOG.actions.values()} == {
        path.name for path in (SOURCE / "actions").iterdir() if path.is_dir() and path.name != "__pycache__"
    }


def test_specs_are_of_every_type() -> None:
    specs = CATALOG.specs()
    assert set(specs) == {*CATALOG.actions, *CATALOG.triggers, *CONTROL}
    assert all(kind == spec.type for kind, spec in specs.items())
    assert specs["filter"].result_fields == frozenset({"items", "count"})
    assert specs["regex"].raw_fields == {"pattern"}
    assert (specs["manual"].kind, specs["http-request"].effect) == ("trigger", "write")


def test_an_action_is_shown_with_all_or_in_short() -> None:
    shown = CATALOG.public_action("hash")
    assert {key: shown[key] for key in ("type", "kind", "family", "effect", "fundsMovement", "requiresGas")} == {
        "type": "hash",
        "kind": "action",
        "family": "data",
        "effect": "pure",
        "fundsMovement": [],
        "requiresGas": False,
    }
    short = CATALOG.public_action("hash", summary=True)
    assert short == {key: shown[key] for key in short}
    assert set(shown) - set(short) == {"description", "inputSchema", "outputSchema", "exampleInput", "exampleOutput"}
    assert [kind["type"] for kind in CATALOG.public_actions()] == sorted({*CATALOG.actions, *CONTROL})


def _titled(schema: Any) -> Iterator[Any]:
    """What has a title that no person wrote; the names of properties are no titles."""
    if isinstance(schema, list):
        for part in schema:
            yield from _titled(part)
    elif isinstance(schema, dict):
        if isinstance(schema.get("title"), str):
            yield schema
        for name, part in schema.items():
            yield from _titled(list(part.values()) if name in ("properties", "$defs") else part)


def test_no_schema_repeats_a_name_as_its_title() -> None:
    every = [*CATALOG.public_actions(), *CATALOG.public_triggers()]
    schemas = [shown[name] for shown in every for name in ("inputSchema", "outputSchema")]
    schemas += [one["dataSchema"] for one in CATALOG.public_connectors()]
    assert list(_titled(schemas)) == []
    assert "title" in CATALOG.public_action("notify")["inputSchema"]["properties"]


def test_triggers_that_start_nothing_without_a_connector_say_so() -> None:
    needing = {one["type"] for one in CATALOG.public_triggers(summary=True) if one["connectorRequired"]}
    assert needing == {"email-received", "kafka", "mqtt", "nats", "postgres-row"}


def test_schemas_say_how_a_form_shows_a_field() -> None:
    swap = CATALOG.public_action("swap-uniswap-v3")["inputSchema"]["properties"]
    watch = CATALOG.public_trigger("erc20-receive")["inputSchema"]["properties"]
    assert [swap[name].get("x-widget") for name in ("chainId", "tokenIn", "slippageBps")] == ["chain", "token", None]
    assert [swap[name].get("x-group") for name in ("tokenIn", "slippageBps", "router")] == [None, "Limits", "Route"]
    assert [watch[name].get("x-group") for name in ("address", "onReorg", "catchUp")] == [None, "Delivery", "Delivery"]
    assert watch["tokenAddress"]["x-widget"] == "token"
    found = {
        part.get("x-widget")
        for shown in [*CATALOG.public_actions(), *CATALOG.public_triggers()]
        for field in shown["inputSchema"].get("properties", {}).values()
        for part in (field, *field.get("anyOf", ()))
    }
    assert found == {None, "chain", "token", "address", "workflow", "table", "duration"}


def test_control_nodes_show_their_branches_and_results() -> None:
    shown = {kind: CATALOG.public_action(kind) for kind in CONTROL}
    branches = {kind: one["branches"] for kind, one in shown.items() if one["branches"]}
    assert branches == {
        "if": ["then", "else"],
        "switch": ["default"],
        "wait": ["resumed", "timed_out"],
        "approve": ["approved", "rejected", "timed_out"],
    }
    assert {kind: one["branchesIn"] for kind, one in shown.items() if one["branchesIn"]} == {"switch": "cases"}
    assert CATALOG.public_action("log")["branches"] == []
    for kind, one in shown.items():
        jsonschema.Draft202012Validator(one["outputSchema"]).validate(one["exampleOutput"])
        assert frozenset(one["outputSchema"]["properties"]) == CONTROL[kind].result_fields


@pytest.mark.parametrize(
    ("look_up", "message"),
    [
        (
            lambda: CATALOG.public_action("http-requests"),
            'There is no action "http-requests". Did you mean "http-request"?',
        ),
        (lambda: CATALOG.public_action("fore-each"), 'There is no action "fore-each". Did you mean "for-each"?'),
        (lambda: CATALOG.public_trigger("manuel"), 'There is no trigger "manuel". Did you mean "manual"?'),
        (lambda: CATALOG.public_trigger("zzz"), 'There is no trigger "zzz".'),
    ],
)
def test_an_unknown_type_is_told_with_a_near_one(look_up: Any, message: str) -> None:
    with pytest.raises(NotFound) as caught:
        look_up()
    assert (caught.value.message, caught.value.code) == (message, Code.TYPE_UNKNOWN)


def test_a_file_of_ones_own_is_an_action(tmp_path: Path) -> None:
    found = load_with(tmp_path, say_hello=FILE, _helper="raise RuntimeError")
    action = found.actions["say-hello"]
    assert (action.family, action.summary, action.description) == ("own", "Says hello.", "To whoever asks.")
    assert found.specs()["say-hello"].result_fields == frozenset({"theText"})


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("broken", "def (", 'The action file "broken.py" cannot be loaded: SyntaxError: invalid syntax (line 1)'),
        ("absent", "import no_such_module_here", "ModuleNotFoundError: No module named 'no_such_module_here'"),
        ("wrong", "1 / 0", 'The action file "wrong.py" cannot be loaded: ZeroDivisionError: division by zero'),
        ("empty", "", 'The file "empty.py" declares no action or trigger. Files whose names begin with "_"'),
        ("borrowed", "from dustrun.actions.data.log import log", 'The file "borrowed.py" declares no action'),
        ("log", FILE, 'Two files provide the type "log"; the second is "log.py".'),
        ("if", FILE, 'Two files provide the type "if"; the second is "if.py".'),
        ("manual", FILE, 'Two files provide the type "manual"; the second is "manual.py".'),
        ("Say Hello", FILE, 'The file "Say Hello.py" has a name that cannot be a type: use lower case'),
        ("twice", f"{FILE}\n\nother = action(**EXAMPLE)(lambda input, ctx: None)", "declares 2 actions"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    example = "EXAMPLE = dict(effect=Effect.PURE, input=Input, output=Output, example_input={}, example_output={})"
    with pytest.raises(Invalid) as caught:
        load_with(tmp_path, **{name: text.replace("\n\nother", f"\n{example}\nother")})
    assert message in caught.value.message


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"The setting actions_dir names .*, which is not a folder"):
        catalog.load(tmp_path / "no")


def load_apart(folder: Path, code: str) -> Any:
    """What a fresh process prints that sees the packages of a folder."""
    path = os.pathsep.join([str(folder), str(SOURCE.parent)])
    done = subprocess.run(
        [sys.executable, "-c", f"import json, sys\nfrom dustrun import catalog\n{code}"],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def install(folder: Path, module: str, text: str) -> None:
    """A package as pip leaves it."""
    (folder / f"{module}.py").write_text(text)
    info = folder / "plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[dustrun.actions]\nchat = {module}\n")


def test_an_installed_package_offers_actions(tmp_path: Path) -> None:
    install(tmp_path, "say_hello", FILE)
    found = load_apart(tmp_path, "print(json.dumps(catalog.load().public_action('say-hello', summary=True)))")
    assert (found["type"], found["family"], found["tags"]) == ("say-hello", "chat", ["chat"])
    assert found["package"] == {"name": "plugin", "version": "1.0"}


def test_what_comes_with_dustrun_or_from_a_folder_has_no_package(tmp_path: Path) -> None:
    found = load_with(tmp_path, hello=FILE)
    every = [*found.public_actions(summary=True), *found.public_triggers(summary=True), *found.public_connectors()]
    assert {one["package"] and one["package"]["name"] for one in every} == {None}


def test_an_installed_package_that_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    install(tmp_path, "say_hello", "1 / 0")
    code = "try:\n    catalog.load()\nexcept Exception as error:\n    print(json.dumps(error.message))"
    message = 'The package "plugin" offers "say_hello", which cannot be loaded: ZeroDivisionError: division by zero'
    assert load_apart(tmp_path, code) == message


def test_nothing_heavy_is_imported_before_it_is_used(tmp_path: Path) -> None:
    heavy = ["re2", "jsonschema", "defusedxml", "Crypto", "aiohttp", "selectolax", "sqlalchemy", "fastapi"]
    assert load_apart(tmp_path, f"catalog.load()\nprint(json.dumps([m for m in {heavy} if m in sys.modules]))") == []
