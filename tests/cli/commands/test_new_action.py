from __future__ import annotations

import ast
from pathlib import Path

import pytest

from dustrun.catalog import load
from dustrun.cli.commands.actions import new_action, write
from dustrun.cli.http.failures import CliError


def project(tmp_path: Path) -> Path:
    (tmp_path / "src/dustrun/actions").mkdir(parents=True)
    return tmp_path


def test_the_files_that_are_written_are_a_whole_action(tmp_path: Path) -> None:
    root = project(tmp_path)
    action_path, test_path = write(root, "convert-temperature", "data")
    assert action_path == Path("src/dustrun/actions/data/convert_temperature.py")
    assert test_path == Path("tests/actions/data/test_convert_temperature.py")
    ast.parse((root / test_path).read_text())
    action = load((root / action_path).parent).actions["convert-temperature"]
    assert action.summary.startswith("Convert temperature:")
    assert action.output.model_validate(action.example_output).model_dump() == action.example_output


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    root = project(tmp_path)
    write(root, "a-b", "data")
    with pytest.raises(CliError, match="already exists"):
        write(root, "a-b", "data")


@pytest.mark.parametrize("name", ["Convert", "a_b", "1st", "import", "../x"])
def test_names_are_kebab_case(tmp_path: Path, name: str) -> None:
    with pytest.raises(CliError, match="kebab case"):
        new_action(name, "data", project(tmp_path), test=False)


def test_it_wants_a_checkout(tmp_path: Path) -> None:
    with pytest.raises(CliError, match="not the root"):
        new_action("a-b", "data", tmp_path, test=False)
