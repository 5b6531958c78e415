"""Folders, tags, and which workflows a scope of them reaches."""

from __future__ import annotations

import re

import pytest

from dustrun.core.workflow.placement import FOLDER_PATTERN, SCOPE_PATTERN, is_within, reaches, tags_text


@pytest.mark.parametrize(
    ("folder", "is_good"),
    [
        ("payroll", True),
        ("pay roll/Europa Süd", True),
        ("a/b/c/d/e", True),
        ("a/b/c/d/e/f", False),
        ("", False),
        ("/a", False),
        ("a/", False),
        ("a//b", False),
        (" a", False),
        ("a ", False),
        ("a\nb", False),
        ("x" * 65, False),
    ],
)
def test_a_folder_is_a_path_of_names(folder: str, is_good: bool) -> None:
    assert bool(re.search(FOLDER_PATTERN, folder)) is is_good
    assert bool(re.search(SCOPE_PATTERN, f"folder:{folder}")) is is_good


@pytest.mark.parametrize(
    ("scope", "is_reached"),
    [
        (["folder:payroll"], True),
        (["folder:payroll/europe"], True),
        (["folder:pay"], False),
        (["folder:payroll/europe/north"], False),
        (["tag:money"], True),
        (["tag:mon"], False),
        (["wf_1"], True),
        (["wf_2", "tag:other"], False),
        ([], False),
    ],
)
def test_a_scope_reaches_by_id_folder_and_tag(scope: list[str], is_reached: bool) -> None:
    assert reaches(scope, "wf_1", "payroll/europe", ["eu", "money"]) is is_reached


def test_an_entry_is_within_a_scope_wherever_workflows_are() -> None:
    scope = ["folder:payroll", "tag:money"]
    found = {one: is_within(one, scope) for one in ("folder:payroll/europe", "folder:pay", "tag:money", "wf_1")}
    assert found == {"folder:payroll/europe": True, "folder:pay": False, "tag:money": True, "wf_1": False}


def test_tags_are_kept_each_once_with_spaces_around() -> None:
    assert (tags_text(["b", "a", "b"]), tags_text([])) == (" a b ", "")
