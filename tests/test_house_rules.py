"""Every rule of scripts/house finds the fault that it is for, and nothing in a tree without it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import house_rules
import pytest
from house import code, commits, coverage, folders, patching, words
from house.tree import Finding, Rule, Tree

Files = dict[str, str]
FEW = "def __init__(self, a, b, c, d, e, f, *, g): ..."
MANY = "def __init__(self, a, b, c, d, e, f, *, g, h): ..."
TESTS_OF_BOTH = {"tests/core/test_plan.py": "", "tests/engine/test_plan.py": ""}


def tree(folder: Path, files: Files) -> Tree:
    """A project of these files."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Tree(folder)


def faults(found: Iterator[Finding]) -> list[str]:
    """Place and fault of what was found; each also says how to mend it."""
    findings = list(found)
    assert all(finding.mend for finding in findings)
    return [f"{finding.place}: {finding.fault}" for finding in findings]


def test_constructor_with_eight_arguments_is_found(tmp_path: Path) -> None:
    files = {
        "src/dustrun/a.py": f"class Small:\n    {FEW}\nclass Large:\n    {MANY}\n",
        "src/dustrun/b.py": f"class Other:\n    {MANY.replace('__init__', 'made')}\n",
    }
    found = code.constructors(tree(tmp_path, files))
    assert faults(found) == ["src/dustrun/a.py:4: the constructor of Large has 8 arguments of 7"]


@pytest.mark.parametrize("annotation", ["Any", "Any | None", "None | Any"])
def test_part_that_is_any_is_found(tmp_path: Path, annotation: str) -> None:
    text = f"class Parts:\n    keys: Keys\n    kept: dict[str, Any]\n    runs: {annotation} = None\n"
    found = code.typed_parts(tree(tmp_path, {code.PARTS: text}))
    assert faults(found) == [f"{code.PARTS}:4: Parts.runs is Any"]


def test_route_that_decides_is_found(tmp_path: Path) -> None:
    body = "    await call()\n" * code.MAX_ROUTE_STATEMENTS
    text = f"async def thin():\n{body}\nasync def thick():\n    if True:\n{body.replace('    ', '        ')}"
    found = code.thin_routes(tree(tmp_path, {f"{room}/runs.py": text for room in code.ROUTES}))
    count = code.MAX_ROUTE_STATEMENTS
    assert faults(found) == [
        f"{room}/runs.py:{count + 3}: thick has {count + 1} statements of {count}" for room in sorted(code.ROUTES)
    ]


def test_route_that_reads_the_store_is_found(tmp_path: Path) -> None:
    text = "from dustrun.storage.runs.runs import RunRow\nfrom dustrun.storage.runs import runs\n"
    files = {f"{room}/{name}.py": text for room in code.ROUTES for name in ("runs", "shapes/runs")}
    found = code.thin_routes(tree(tmp_path, files))
    assert faults(found) == [
        f"{room}/runs.py:2: a route imports dustrun.storage.runs.runs" for room in sorted(code.ROUTES)
    ]


@pytest.mark.parametrize("room", code.WITHOUT_MONEY)
@pytest.mark.parametrize("imported", ["services.outbox.intents", "services.wallets", "wallets.keys", "chain.evm"])
def test_room_without_money_that_imports_it_is_found(tmp_path: Path, room: str, imported: str) -> None:
    package, _, name = imported.rpartition(".")
    files = {
        f"src/dustrun/{room}/tools.py": f"def ask():\n    from dustrun.{package} import {name}\n",
        f"src/dustrun/{room}/views.py": "from dustrun.services.runs import runs\nimport dustrun.chain_names\n",
        "src/dustrun/services/pay.py": f"from dustrun.{package} import {name}\n",
        **{f"src/dustrun/{other}/__init__.py": "" for other in code.WITHOUT_MONEY},
    }
    found = code.rooms_without_money(tree(tmp_path, files))
    assert faults(found) == [f"src/dustrun/{room}/tools.py:2: {room} imports dustrun.{imported}"]


@pytest.mark.parametrize(
    ("rule", "places"),
    [
        (code.rooms_without_money, [f"src/dustrun/{room}" for room in code.WITHOUT_MONEY]),
        (code.thin_routes, [*code.ROUTES]),
        (code.typed_parts, [code.PARTS]),
    ],
)
def test_rule_about_a_place_that_is_gone_is_found(tmp_path: Path, rule: Rule, places: list[str]) -> None:
    found = faults(rule(tree(tmp_path, {"src/dustrun/moved/parts.py": ""})))
    assert found == [f"{place}: a rule names this place and it does not exist" for place in places]


def test_folder_with_sixteen_files_is_found(tmp_path: Path) -> None:
    entry = "@action(name='x')\ndef run(): ...\n"
    full = [f"src/dustrun/{room}/m{number}.py" for room in ("full", "actions/evm") for number in range(15)]
    files = {
        **dict.fromkeys(full, ""),
        "src/dustrun/full/__init__.py": "",
        "src/dustrun/actions/evm/send.py": entry,
        **{f"src/dustrun/api/routes/m{number}.py": "" for number in range(20)},
        **{f"src/dustrun/large/m{number}.py": "" for number in range(16)},
    }
    assert faults(folders.small_folders(tree(tmp_path, files))) == ["src/dustrun/large: 16 files of 15"]


def test_folder_of_tests_without_its_room_is_found(tmp_path: Path) -> None:
    files = {
        "src/dustrun/core/run/plan.py": "",
        "src/dustrun/connectors/basic.py": "",
        "src/dustrun/prices/web.py": "",
        "tests/core/run/test_plan.py": "",
        "tests/core/transactions/conftest.py": "",
        "tests/crash/deep/test_kill.py": "",
        "tests/contract/test_connectors.py": "",
    }
    found = folders.mirrored_tests(tree(tmp_path, files), {"connectors": "tests/contract/test_connectors.py"})
    assert faults(found) == [
        "tests/core/transactions: there is no src/dustrun/core/transactions",
        "src/dustrun/prices: there is no test in tests/prices",
    ]


def test_test_beside_another_module_is_found(tmp_path: Path) -> None:
    files = {
        "src/dustrun/core/run/plan.py": "",
        "src/dustrun/core/money/dust.py": "",
        "src/dustrun/engine/run/plan.py": "",
        **TESTS_OF_BOTH,
        "tests/core/run/test_plan.py": "",
        "tests/core/money/test_plan.py": "",
        "tests/core/money/test_every_payment.py": "",
    }
    found = folders.named_tests(tree(tmp_path, files))
    assert faults(found) == ["tests/core/money/test_plan.py: plan.py lies in src/dustrun/core/run"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("from dustrun.engine import node\nmonkeypatch.setattr(node, 'run', 1)", "monkeypatch.setattr patches node"),
        ("from dustrun.a import B\nmonkeypatch.setattr(B.c, 'run', 1)", "monkeypatch.setattr patches B.c"),
        ("\nmonkeypatch.setattr('dustrun.clock.now_ms', 1)", "monkeypatch.setattr patches 'dustrun.clock.now_ms'"),
        ("from dustrun import clock\nsetattr(clock, 'now_ms', 1)", "setattr patches clock"),
        ("from dustrun import clock\nclock.now_ms = 1", "clock.now_ms is set from outside"),
        ("\nfrom unittest.mock import patch", "unittest.mock.patch is imported"),
        ("\nfrom unittest import mock", "unittest.mock is imported"),
    ],
)
def test_patched_production_code_is_found(tmp_path: Path, text: str, fault: str) -> None:
    clean = "monkeypatch.setenv('A', 'b')\nmonkeypatch.setattr('sys.stderr', 1)\nmade = dustrun()\nmade.name = 1\n"
    found = patching.no_patches(tree(tmp_path, {"tests/test_a.py": text, "tests/test_b.py": clean}))
    assert faults(found) == [f"tests/test_a.py:2: {fault}"]


@pytest.mark.parametrize("word", sorted(words.NAMES))
def test_private_word_in_a_name_is_found(tmp_path: Path, word: str) -> None:
    text = f"from x import a{word}b, under{word}\nclass Big{word.capitalize()}s: ...\ndef test_it_stands(): ...\n"
    found = words.no_private_words(tree(tmp_path, {"src/dustrun/a.py": text}))
    assert faults(found) == [f'src/dustrun/a.py:2: "{word}" is a private word']


@pytest.mark.parametrize("word", sorted(words.PROSE))
def test_private_word_in_prose_is_found(tmp_path: Path, word: str) -> None:
    files = {
        "src/dustrun/a.py": f'"""Of course it stands: {word.upper()}."""\nx = "{word}"  # wire names stay: a{word}\n',
        "tests/b.py": f"x = 1  # {word}s\n",
        "docs/page.md": f"One {word}.example.com\n\nTwo {word}es\n",
        "README.md": f"{word}ed\n",
    }
    found = words.no_private_words(tree(tmp_path, files))
    assert faults(found) == [
        f'{place}: "{word}" is a private word'
        for place in ("src/dustrun/a.py:1", "tests/b.py:1", "docs/page.md:3", "README.md:1")
    ]


@pytest.mark.parametrize("name", ["together", "unveil", "errands", "take_up_desks"])
def test_module_with_a_private_name_is_found(tmp_path: Path, name: str) -> None:
    files = {f"src/dustrun/chain/{name}.py": "", "src/dustrun/chain/endpoints.py": ""}
    found = words.no_private_file_names(tree(tmp_path, files))
    assert faults(found) == [f"src/dustrun/chain/{name}.py: its name is a private word"]


def test_commit_without_a_reason_or_with_a_long_subject_is_found(tmp_path: Path) -> None:
    _git(tmp_path, "init", "-q")
    hashes = [
        _commit(tmp_path, message)
        for message in ("Old one", "Short\n\nAnd why.", f"{'x' * 73}\n\nAnd why.", "No reason", f"{'x' * 72}\n\nWhy.")
    ]
    found = faults(commits.commit_messages(Tree(tmp_path), hashes[0]))
    assert found == [
        f"commit {hashes[3][:7]}: it has no body",
        f"commit {hashes[2][:7]}: its subject has 73 characters of 72",
    ]


def test_commits_are_not_judged_without_their_history(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert faults(commits.commit_messages(Tree(tmp_path), "c133ce65")) == []
    _git(tmp_path, "init", "-q")
    _commit(tmp_path, "No reason")
    assert faults(commits.commit_messages(Tree(tmp_path), "c133ce65")) == []
    note = "Commit messages were not checked: the history since c133ce65 is not here.\n"
    assert capsys.readouterr().err == note * 2


def _git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.com", "-c", "core.abbrev=7"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _commit(folder: Path, message: str) -> str:
    _git(folder, "commit", "-q", "--allow-empty", "-m", message)
    return _git(folder, "rev-parse", "HEAD")


def test_findings_are_printed_and_fail_the_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree(tmp_path, {"src/dustrun/chain/together.py": ""})
    assert house_rules.main(tmp_path) == 1
    assert (
        "no_private_file_names: src/dustrun/chain/together.py: its name is a private word." in capsys.readouterr().out
    )


HERE = {"list_notes": "GET /v1/notes", "get_note": "GET /v1/notes/{}"}


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("GET\t/v1/notes\tsame\tlist_notes", None),
        ("GET\t/v1/notes/{noteId}\tother\tget_note\tanother time", None),
        ("GET\t/v1/slips\trenamed\tlist_notes", None),
        ("GET\t/v1/slips\tmissing", None),
        ("GET\t/v1/slips\tleft out\t\tnobody writes one", None),
        ("GET\t/v1/slips\tleft out", "say why"),
        ("GET\t/v1/notes\tleft out\t\tnobody writes one", "not left out"),
        ("GET\t/v1/slips\tsame\tlist_notes", "not same"),
        ("GET\t/v1/notes\trenamed\tlist_notes", "not renamed"),
        ("GET\t/v1/notes\tsame\tread_notes", "no operation"),
        ("GET\t/v1/notes\tdone\tlist_notes", "is none of"),
    ],
)
def test_coverage_that_is_not_so_is_found(line: str, fault: str | None) -> None:
    found = list(coverage.faults(coverage.read(line), HERE))
    assert [fault] == [fault for one in found if fault in one] if fault else found == []


def test_the_table_of_coverage_says_what_is_so() -> None:
    assert coverage.main([]) == 0
    known = coverage.read(coverage.TABLE.read_text())
    assert len(known) == 171
    assert len({one.place for one in known}) == 171
