"""The documentation site: what its navigation and its questions name, and, built, what its search finds."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pictures
import pytest
import site_pages
import site_versions
import yaml

from served import ROOT

QUESTIONS: dict[str, dict[str, str]] = yaml.safe_load((ROOT / "docs" / "questions.yaml").read_text())


def _pages(one: Any) -> list[str]:
    """The pages of a part of the navigation."""
    if isinstance(one, str):
        return [one]
    parts = one.values() if isinstance(one, dict) else one
    return [page for part in parts for page in _pages(part)]


def test_there_are_questions_of_all_four_readers_and_each_has_a_page() -> None:
    assert set(QUESTIONS) == {"who builds", "who pays", "who operates", "who extends"}
    asked = {question: page for of_reader in QUESTIONS.values() for question, page in of_reader.items()}
    assert len(asked) == sum(map(len, QUESTIONS.values())) >= 40
    assert [page for page in asked.values() if not (ROOT / "docs" / page).is_file()] == []


def test_what_the_search_knows_of_pages_is_about_pages_that_are_there() -> None:
    known = yaml.safe_load((ROOT / "docs" / "search.yaml").read_text())
    assert [page for page in known["pages"] if not (ROOT / page).is_file()] == []
    assert [group for group in known["same"] if len(set(group)) < 2] == []


def test_the_navigation_has_every_page_but_single_decisions() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    shown = set(_pages(site_pages.navigation(index, [])))
    there = {str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md")}
    assert {page for page in there if not page.startswith("docs/decisions/0")} - shown == set()
    assert [page for page in shown if not (ROOT / page).is_file()] == []


def test_a_link_that_leads_nowhere_and_what_is_loaded_from_elsewhere_are_found(tmp_path: Path) -> None:
    (tmp_path / "there.html").write_text("<p>here</p>")
    (tmp_path / "index.html").write_text(
        "<a href='there.html#a'></a> <a href='gone.html'></a> <a href='https://example.com/x'></a>"
        "<script src='https://cdn.example.com/x.js'></script> <img src='there.html'> <source srcset='gone.webp'>"
    )
    assert sorted(site_pages.faults(tmp_path)) == [
        "index.html leads to gone.html",
        "index.html leads to gone.webp",
        "index.html loads https://cdn.example.com/x.js",
    ]


def test_each_picture_is_there_in_both_themes_and_all_are_small() -> None:
    wanted = {f"{name}-{theme}.webp" for name in pictures.PICTURES for theme in pictures.THEMES}
    sizes = {picture.name: picture.stat().st_size for picture in pictures.OUT.iterdir()}
    assert set(sizes) == {*wanted, "film.webp"}
    assert sum(sizes[name] for name in wanted) < 400_000
    assert sizes["film.webp"] < 1_500_000


def test_a_film_is_made_of_still_pictures() -> None:
    still = (pictures.OUT / "approval-light.webp").read_bytes()
    made = pictures.film([(still, 700), (still, 2500)], 1200, 750)
    assert len(made) == 8 + int.from_bytes(made[4:8], "little")
    assert (made[:4], made[8:16], made.count(b"ANMF")) == (b"RIFF", b"WEBPVP8X", 2)
    assert len(made) < 2 * len(still) + 200


def test_each_version_is_kept_and_the_latest_leads_to_the_newest_release(tmp_path: Path) -> None:
    folder = tmp_path / "all"
    for version in ("0.9.0", "0.10.0", "0.11.0rc1", "0.9.0"):
        site = tmp_path / "site"
        (site / "docs").mkdir(parents=True, exist_ok=True)
        (site / "docs" / "page.html").write_text(f"of {version}")
        site_versions.keep(site, version, folder)
    listed = json.loads((folder / "versions.json").read_text())
    assert {one["version"]: one["aliases"] for one in listed} == {"0.11.0rc1": [], "0.10.0": ["latest"], "0.9.0": []}
    assert [one["version"] for one in listed] == ["0.11.0rc1", "0.10.0", "0.9.0"]
    assert [(folder / one["version"] / "docs" / "page.html").read_text() for one in listed] == [
        f"of {one['version']}" for one in listed
    ]
    assert '"../../0.10.0/docs/page.html"' in (folder / "latest" / "docs" / "page.html").read_text()


@pytest.mark.long
def test_the_site_is_built_and_its_search_finds_the_right_page_first(tmp_path: Path) -> None:
    """The search is the worker that a browser runs, with the index that it loads."""
    out = tmp_path / "site"
    built = subprocess.run(
        [ROOT / "scripts" / "site", "--out", out], capture_output=True, text=True, check=False, timeout=900
    )
    assert built.returncode == 0, built.stdout + built.stderr
    asked = {question: page for of_reader in QUESTIONS.values() for question, page in of_reader.items()}
    (worker,) = (out / "assets" / "javascripts" / "workers").glob("search.*.js")
    command = list(map(str, ("node", ROOT / "testkit/web/site_search.mjs", worker, out / "search/search_index.json")))
    told = subprocess.run(
        command, input=json.dumps(list(asked)), capture_output=True, text=True, check=True, timeout=300
    )
    first = {question: pages[:1] for question, pages in zip(asked, json.loads(told.stdout), strict=True)}
    places = {"../README.md": "index.html"}
    wanted = {question: [places.get(page, f"docs/{page.removesuffix('.md')}.html")] for question, page in asked.items()}
    assert {question: pages for question, pages in first.items() if pages != wanted[question]} == {}
