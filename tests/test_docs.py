"""The documentation says what is so: links lead somewhere, JSON is JSON, definitions validate, examples run."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from dustrun.catalog import load
from dustrun.cli.command_tree import app
from dustrun.core.validate import check
from dustrun.core.workflow.definition import Definition
from dustrun.settings import Settings
from served import ROOT, Served, served

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
_LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
_BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SETTING = re.compile(r"\bDUSTRUN_([A-Z][A-Z0-9_]+)\b")
_SETTING_IN_MESSAGE = re.compile(r"\bsettings? `?([a-z]+_[a-z_]+)\b")
_COMMANDS_OWN = {"SERVER", "API_KEY"}


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, kind: str) -> list[str]:
    """The code blocks of a page that are marked with exactly these words."""
    return [text for words, text in _BLOCK.findall(page.read_text()) if words.strip() == kind]


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_lead_somewhere(page: Path) -> None:
    links = [link for link in _LINK.findall(page.read_text()) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_index_leads_to_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    assert "](where-is-what.md)" in index
    decisions = (ROOT / "docs" / "decisions" / "README.md").read_text()
    for folder, text in (("guides", index), ("concepts", index), ("reference", index), ("decisions", decisions)):
        for page in (ROOT / "docs" / folder).glob("*.md"):
            link = page.name if folder == "decisions" else f"{folder}/{page.name}"
            assert f"]({link})" in text or page.name == "README.md", page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_into_a_page_lead_to_a_heading(page: Path) -> None:
    for link, anchor in re.findall(r"\]\(([^)\s#:]*)#([^)\s]+)\)", page.read_text()):
        target = page.parent / link if link else page
        headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
        assert anchor in {re.sub(r"[^\w\- ]", "", found.lower()).replace(" ", "-") for found in headings}, link


def test_the_map_names_every_folder_and_the_layers_are_those_that_are_checked() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    shown = re.search(r"^src/dustrun/\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert shown is not None
    named = set(re.findall(r"([a-z_]+)[/.]", shown.group(1)))
    there = {path.stem for path in (ROOT / "src/dustrun").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert there - {"__init__", "__pycache__", "py"} <= named
    drawn = re.search(r"^```\n(cli >.*?)^```", text, re.MULTILINE | re.DOTALL)
    checked = re.search(r"^layers =\n(.*?)^\n", (ROOT / ".importlinter").read_text(), re.MULTILINE | re.DOTALL)
    assert drawn is not None
    assert checked is not None
    assert [part.strip() for part in drawn.group(1).split(">")] == checked.group(1).strip().split("\n    ")


def test_the_order_of_the_rooms_is_that_which_is_checked() -> None:
    linter = (ROOT / ".importlinter").read_text()
    contracts = re.findall(r"^name = Rooms of (\w+)\n(?:.+\n)*?layers =\n((?: {4}.+\n)+)", linter, re.MULTILINE)
    assert contracts
    checked = {name: [layer.strip() for layer in layers.strip().split("\n")] for name, layers in contracts}
    text = (ROOT / "ARCHITECTURE.md").read_text().partition("| Layer | Order |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", text, re.MULTILINE)
    assert {name: order.replace("\\|", "|").split(" > ") for name, order in rows} == checked


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_json_is_json(page: Path) -> None:
    for text in blocks(page, "json"):
        json.loads(text)


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_settings_that_are_named_exist(page: Path) -> None:
    known = {name.upper() for name in _setting_names()} | _COMMANDS_OWN
    assert {name for name in _SETTING.findall(page.read_text()) if name not in known} == set()


@pytest.mark.parametrize("folder", ["src", "deploy", "examples", "scripts", "bench"])
def test_settings_that_code_and_commands_name_exist(folder: str) -> None:
    """Help, hints and messages too: a command's help is written in its code."""
    known = {name.upper() for name in _setting_names()} | _COMMANDS_OWN
    tracked = subprocess.run(["git", "ls-files", "-z", folder], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, tracked.stdout.split("\0")):
        text = (ROOT / name).read_text(errors="replace")
        assert (name, {one for one in _SETTING.findall(text) if one not in known}) == (name, set())
        lower = set(_SETTING_IN_MESSAGE.findall(text)) if name.endswith(".py") else set()
        assert (name, {one for one in lower if one.upper() not in known}) == (name, set())


def test_variables_of_commands_are_the_ones_of_the_guides() -> None:
    """And every setting, with its variable, is in the reference."""
    commands = list(_commands(get_command(app)))
    read = {parameter.envvar for command in commands for parameter in command.params if parameter.envvar}
    assert read == {f"DUSTRUN_{name}" for name in _COMMANDS_OWN}
    guides = "".join(page.read_text() for page in (ROOT / "docs" / "guides").glob("*.md"))
    reference = (ROOT / "docs" / "reference" / "cli.md").read_text()
    assert {name for name in read if name not in guides or name not in reference} == set()
    settings = (ROOT / "docs" / "reference" / "settings.md").read_text()
    rows = {name for name in _setting_names() if f"| `{name}` | `DUSTRUN_{name.upper()}` |" in settings}
    assert rows == _setting_names()


def _commands(command: Any) -> Iterator[Any]:
    yield command
    for inner in getattr(command, "commands", {}).values():
        yield from _commands(inner)


def _setting_names() -> set[str]:
    return set(Settings.model_fields)


def test_definitions_validate() -> None:
    found = [text for page in PAGES for text in blocks(page, "json definition")]
    assert found
    for text in found:
        assert check(Definition.model_validate_json(text), load().specs()) == []


def test_the_action_of_the_guide_works(tmp_path: Path) -> None:
    [text] = blocks(ROOT / "docs/guides/write-an-action.md", "python action")
    (tmp_path / "convert_temperature.py").write_text(text)
    action = load(tmp_path).actions["convert-temperature"]
    result = action.run(action.input.model_validate(action.example_input), None)
    assert result == action.output.model_validate(action.example_output)


def test_the_trigger_of_the_guide_passes_its_own_test_and_its_workflow_validates(tmp_path: Path) -> None:
    page = ROOT / "docs/guides/add-a-trigger.md"
    shutil.copytree(ROOT / "src/dustrun", tmp_path / "src/dustrun", ignore=shutil.ignore_patterns("__pycache__"))
    [trigger], [test] = blocks(page, "python trigger"), blocks(page, "python test")
    (tmp_path / "src/dustrun/triggers/order_placed.py").write_text(trigger)
    (tmp_path / "test_order_placed.py").write_text(test)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_order_placed.py"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "src")}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout.splitlines()[-1].split(" in ")[0]) == (0, "4 passed"), done.stdout
    own = tmp_path / "own"
    own.mkdir()
    (own / "order_placed.py").write_text(trigger)
    catalog = load(own)
    found = catalog.triggers["order-placed"]
    found.config.model_validate(found.example_config)
    found.output.model_validate(found.example_output)
    [definition] = blocks(page, "json trigger definition")
    assert check(Definition.model_validate_json(definition), catalog.specs()) == []


def _where_is_what() -> list[tuple[str, str, str]]:
    text = (ROOT / "docs/where-is-what.md").read_text()
    return re.findall(r"^\| ([^|]+\?) \| `([^`]+)` \| `?([^`|]*?)`? ?\|$", text, re.MULTILINE)


def test_where_is_what_has_thirty_questions_and_one_file_for_each() -> None:
    text = (ROOT / "docs/where-is-what.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("|")][2:]
    assert len(_where_is_what()) == len(rows) >= 30
    assert len({question for question, _, _ in _where_is_what()}) == len(rows)


@pytest.mark.parametrize(("question", "path", "symbol"), _where_is_what(), ids=lambda value: str(value)[:40])
def test_where_is_what_names_a_file_that_defines_the_symbol(question: str, path: str, symbol: str) -> None:
    file = ROOT / "src/dustrun" / path
    assert file.is_file(), question
    top = ast.parse(file.read_text()).body
    defined = {node.name for node in top if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)}
    assert not symbol or symbol in defined, question


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("home") / "data") as found:
        yield found


@pytest.fixture(scope="module")
def first_minutes(server: Served) -> subprocess.CompletedProcess[str]:
    """What the README's shell examples print, run in the folder that holds `data`."""
    script = "set -e\n" + "\n".join(blocks(ROOT / "README.md", "bash"))
    return _run(["bash", "-c", script], server)


def _run(command: list[str], server: Served, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {**server.environment, "DUSTRUN": server.url, "KEY": server.key, **more}
    return subprocess.run(
        command, env=environment, cwd=server.data_dir.parent, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_first_minutes_of_the_readme(first_minutes: subprocess.CompletedProcess[str]) -> None:
    assert first_minutes.returncode == 0, first_minutes.stderr
    assert '"message":"Hello, Ada!"' in first_minutes.stdout
    assert "event: end\ndata: {}" in first_minutes.stdout  # the answer of the run call may be printed after it


def test_the_commands_of_the_tour(server: Served) -> None:
    """One reader after the other, in the folder with `data` and the first workflow."""
    readers = blocks(ROOT / "docs/tour.md", "sh tour")
    [hello] = blocks(ROOT / "docs/guides/install-and-run.md", "json definition")
    (server.data_dir.parent / "hello.json").write_text(hello)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    lines = [[_run(["bash", "-c", line], server, PATH=path) for line in text.splitlines()] for text in readers]
    assert [done for reader in lines for done in reader if done.returncode] == []
    build, pay, operate = ["".join(done.stdout + done.stderr for done in reader) for reader in lines]
    assert "POST https://example.com/notices" in build
    assert "run_tour-1" in build
    assert "up to $50 a day" in pay
    assert "none has an endpoint" in pay  # an empty list says why
    assert "Open runs spend only after you release their wallets" in operate


@pytest.fixture
def workflow(server: Served, tmp_path: Path) -> str:
    [text] = blocks(ROOT / "docs/guides/install-and-run.md", "json definition")
    file = tmp_path / "hello.json"
    file.write_text(text)
    made: str = server.json("workflow", "create", str(file), "--again")["id"]
    return made


def test_the_python_of_the_readme(server: Served, workflow: str) -> None:
    [text] = blocks(ROOT / "README.md", "python")
    done = _run([sys.executable, "-c", text], server, WORKFLOW=workflow)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("run_finished")
    assert "Hello, Ada!" in done.stdout


@pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")
def test_the_javascript_of_the_readme(server: Served, workflow: str) -> None:
    [text] = blocks(ROOT / "README.md", "js")
    done = _run(["node", "--input-type=module", "-e", text], server, WORKFLOW=workflow)
    assert done.returncode == 0, done.stderr
    assert "run_finished" in done.stdout


@pytest.fixture(scope="module")
def webhook(server: Served, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The webhook of the guide, published, as the environment of its senders."""
    [text] = blocks(ROOT / "docs/guides/webhooks.md", "json definition")
    file = tmp_path_factory.mktemp("webhook") / "orders.json"
    file.write_text(text)
    made = server.json("workflow", "create", str(file), "--name", "orders")
    server.json("workflow", "publish", made["id"])
    address = server.json("webhook", "rotate", made["id"])
    return {"WEBHOOK_URL": address["url"], "WEBHOOK_SECRET": address["signingSecret"]}


# The guide's shell example needs both; no Python package brings them. The Python example proves the same everywhere.
_HAS_SHELL_TOOLS = shutil.which("curl") is not None and shutil.which("openssl") is not None
_SHELL = pytest.param(
    "sh webhook",
    ["bash", "-c"],
    marks=pytest.mark.skipif(not _HAS_SHELL_TOOLS, reason="curl or openssl is not installed"),
)


@pytest.mark.parametrize(("kind", "command"), [_SHELL, ("python webhook", [sys.executable, "-c"])])
def test_senders_of_the_guide_of_webhooks(
    server: Served, webhook: dict[str, str], kind: str, command: list[str]
) -> None:
    [text] = blocks(ROOT / "docs/guides/webhooks.md", kind)
    good = _run([*command, text], server, **webhook)
    assert '"action":"triggered"' in good.stdout, (good.stdout, good.stderr)
    bad = _run([*command, text], server, **{**webhook, "WEBHOOK_SECRET": "whsec_" + "A" * 43 + "="})
    assert "401" in bad.stdout + bad.stderr, (bad.stdout, bad.stderr)
