"""Builds the documentation site: the pages of the repository where they are, so that their links lead to the same
places, and a page for each noun of the API. `scripts/site` calls it.

The navigation is that of docs/README.md. A warning of MkDocs, a link that leads nowhere and anything that a page would
load from elsewhere fails the build.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import site_versions
import yaml

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / ".tools" / "site"
_TOP = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")
_FENCE = re.compile(r"^(\s*```[a-z]+) .*$", re.MULTILINE)
_LINK = re.compile(r"\[([^\]]+)\]\(([^)#\s]+)\)")
_RANK: Final = {"docs/decisions": 0.1, "docs/api": 0.1, "docs/concepts": 0.8}
"""What a word in a page counts for the search: who looks for something wants to do it first."""
_OF_PAGES: Final = {
    **{"ARCHITECTURE.md": 0.3, "CONTRIBUTING.md": 0.3, "CHANGELOG.md": 0.1, "docs/where-is-what.md": 0.3},
    **{"README.md": 0.8, "docs/README.md": 0.1, "docs/tour.md": 0.1, "docs/reference/actions.md": 0.3},
    "docs/reference/performance.md": 0.8,
}
_UNASKED: Final = """
    a about all already also am an and another any are as at be been before between by came can cannot could did do does
    doing for from get give go got had happen happens has have he her his how i if in into is it its just know let like
    make many may me mean means most much must my need no not of on only or our own see should so some somebody someone
    something than that the their them then there they this to too up us use using want was way we were what when where
    whether which while who whose why will with work works would you your
""".split()  # noqa: SIM905 - a list of them would be a page
"""Words that a question has and an answer need not."""
_SEPARATOR: Final = r"[\s\-,:!=\[\]()\"`/.;?{}]+"


class Broken(Exception):
    """The site cannot be published; says why."""


# --- the pages ---


def stage(folder: Path) -> None:
    """Copies the pages and what they link to, as the renderer and the search want them."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in _TOP:
        shutil.copy(ROOT / name, folder / name)
    for name in ("docs", "examples"):
        shutil.copytree(ROOT / name, folder / name)
    _write_api(json.loads((ROOT / "docs" / "reference" / "openapi.json").read_text()), folder / "docs" / "api")
    for page in folder.rglob("*.md"):
        text = _FENCE.sub(r"\1", page.read_text())  # the words after a language are for the tests
        rank = _rank(str(page.relative_to(folder)))
        page.write_text(text if rank == 1 else f"---\nsearch:\n  boost: {rank}\n---\n\n{text}")


def _rank(page: str) -> float:
    return _OF_PAGES.get(page, next((rank for place, rank in _RANK.items() if page.startswith(place)), 1))


def _write_api(document: dict[str, Any], folder: Path) -> None:
    """A page for each noun: its operations with permission, parameters, an example of the body and of the answer."""
    folder.mkdir()
    parts = document["components"]
    for tag in document["tags"]:
        found = [
            _operation(method, path, operation, parts)
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
            if method in ("get", "post", "put", "patch", "delete") and tag["name"] in operation.get("tags", [])
        ]
        if found:
            about = tag.get("description", "")
            text = "\n\n".join([f"# API: {tag['name']}", about, *found])
            (folder / f"{_file_of(tag['name'])}.md").write_text(text + "\n")


def _file_of(tag: str) -> str:
    return re.sub(r"\W+", "-", tag.lower())


def _operation(method: str, path: str, operation: dict[str, Any], parts: dict[str, Any]) -> str:
    lines = [f"## `{method.upper()} {path}`", operation["summary"], operation.get("description", "")]
    if permission := operation.get("x-permission"):
        lines.append(f"Permission: `{permission}`")
    rows = [_parameter(one, parts) for one in operation.get("parameters", [])]
    if rows:
        lines.append("| Parameter | In | |\n|---|---|---|\n" + "\n".join(rows))
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    answer = operation["responses"].get("200", {}).get("content", {}).get("application/json", {})
    for name, content in (("Body", body), ("Answer", answer)):
        if (example := _example(content, parts)) is not None:
            lines.append(f"{name}:\n\n```json\n{json.dumps(example, indent=2, ensure_ascii=False)}\n```")
    return "\n\n".join(line for line in lines if line)


def _resolve(one: dict[str, Any], parts: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in one:
        return one
    kind, name = one["$ref"].split("/")[-2:]
    found: dict[str, Any] = parts[kind][name]
    return found


def _parameter(one: dict[str, Any], parts: dict[str, Any]) -> str:
    found = _resolve(one, parts)
    about = found.get("description", "").replace("\n", " ").replace("|", "\\|")
    return f"| `{found['name']}`{'' if found.get('required') else ' (optional)'} | {found['in']} | {about} |"


def _example(content: dict[str, Any], parts: dict[str, Any]) -> Any:
    if "example" in content:
        return content["example"]
    return next((_resolve(one, parts).get("value") for one in content.get("examples", {}).values()), None)


# --- the navigation ---


def navigation(index: str, api: list[Path]) -> list[dict[str, Any]]:
    """The sections of docs/README.md with their pages, and the API's."""
    found: list[dict[str, Any]] = [{"Start": ["README.md", "docs/tour.md", "docs/README.md"]}]
    for section in index.split("\n## ")[1:]:
        title, _, text = section.partition("\n")
        pages = [{name: os.path.normpath(f"docs/{link}")} for name, link in _LINK.findall(text) if link.endswith(".md")]
        found.append({title.strip(): pages})
    return [*found, {"API": [{page.stem.replace("-", " ").capitalize(): f"docs/api/{page.name}"} for page in api]}]


def _version() -> str:
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


def _config(stage_folder: Path, out: Path, *, is_kept: bool) -> dict[str, Any]:
    api = sorted((stage_folder / "docs" / "api").glob("*.md"))
    return {
        "site_name": f"Dustrun {_version()}",
        "docs_dir": str(stage_folder),
        "site_dir": str(out),
        "use_directory_urls": False,  # it can be read from a folder too
        "theme": {
            "name": "material",
            "font": False,  # nothing is loaded from elsewhere
            "features": ["navigation.sections", "navigation.top", "search.highlight", "content.code.copy"],
            "palette": [
                {"media": "(prefers-color-scheme: light)", "scheme": "default", "primary": "black"},
                {"media": "(prefers-color-scheme: dark)", "scheme": "slate", "primary": "black"},
            ],
        },
        "plugins": ["search"],
        "extra": {"generator": False} | ({"version": {"provider": "mike"}} if is_kept else {}),
        "markdown_extensions": ["tables", "pymdownx.superfences", {"toc": {"permalink": True}}],
        "validation": {
            "nav": {"omitted_files": "ignore"},  # single decisions: their page leads to them
            "links": dict.fromkeys(("not_found", "anchors", "absolute_links", "unrecognized_links"), "warn"),
        },
        "nav": navigation((ROOT / "docs" / "README.md").read_text(), api),
    }


# --- the search ---


def _tell_more(out: Path) -> None:
    """Has scripts/site_search.js rank, with what docs/README.md and docs/search.yaml say of each page."""
    index = (ROOT / "docs" / "README.md").read_text()
    rows = re.findall(r"^\| (\[.*?) \| (.*?) \|$", index, re.MULTILINE)
    about = {
        os.path.normpath(f"docs/{link}"): re.sub(r"\[(.*?)\]\(.*?\)|`", r"\1", text).removeprefix("to ")
        for names, text in rows
        for _, link in _LINK.findall(names)
    }
    data = yaml.safe_load((ROOT / "docs" / "search.yaml").read_text())
    names = {page: _built(page) for page in {*about, *data["pages"]}}
    pages = {names[page]: {"about": about.get(page, ""), "known": data["pages"].get(page, "")} for page in names}
    file = out / "search" / "search_index.json"
    found = json.loads(file.read_text())
    found["config"]["separator"] = _SEPARATOR
    file.write_text(json.dumps(found, ensure_ascii=False))
    ranks = {one["location"]: one.get("boost", 1) for one in found["docs"] if "#" not in one["location"]}
    known = {"unasked": _UNASKED, "same": data["same"], "pages": pages, "ranks": ranks}
    (worker,) = (out / "assets" / "javascripts" / "workers").glob("search.*.js")
    ranking = (ROOT / "scripts" / "site_search.js").read_text()
    worker.write_text(f"({ranking.strip()})({json.dumps(known)});\n{worker.read_text()}")


def _built(page: str) -> str:
    """Where a page is in the site."""
    folder, name = os.path.split(page)
    return os.path.join(folder, "index.html" if name == "README.md" else f"{name.removesuffix('.md')}.html")


# --- what was built ---


class _Links(HTMLParser):
    """Collects what a page leads to, and what it loads."""

    def __init__(self) -> None:
        super().__init__()
        self.leads: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "a" and given.get("href"):
            self.leads.append(str(given["href"]))
        if tag in ("script", "img", "iframe", "source") and given.get("src"):
            self.loads.append(str(given["src"]))
        if tag == "source" and given.get("srcset"):
            self.loads.append(str(given["srcset"]))
        if tag == "link" and given.get("rel") in ("stylesheet", "preconnect", "icon") and given.get("href"):
            self.loads.append(str(given["href"]))


def faults(out: Path) -> Iterator[str]:
    """Links to files that are not there, and what a page would load from elsewhere."""
    for page in sorted(out.rglob("*.html")):
        if page.name == "404.html":
            continue  # its links are from the root of wherever it is served
        links = _Links()
        links.feed(page.read_text())
        where = page.relative_to(out)
        yield from (f"{where} loads {one}" for one in links.loads if urlsplit(one).netloc)
        for one in {*links.leads, *links.loads}:
            parts = urlsplit(one)
            if parts.scheme or parts.netloc or not parts.path:
                continue
            target = page.parent / unquote(parts.path)
            if not (target / "index.html" if target.is_dir() else target).is_file():
                yield f"{where} leads to {one}"


def build(mkdocs: Path, out: Path, *, is_kept: bool = False) -> int:
    """Builds the site, with a selector of versions if it is kept beside others; gives its number of pages. Raises
    `Broken`."""
    stage(WORK / "pages")
    config = WORK / "mkdocs.yml"
    config.write_text(yaml.safe_dump(_config(WORK / "pages", out, is_kept=is_kept), sort_keys=False))
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    command = [str(mkdocs), "build", "--strict", "--clean", "--config-file", str(config)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0 or "WARNING" in done.stderr:
        raise Broken((done.stdout + done.stderr)[-4000:])
    _tell_more(out)
    if found := list(faults(out)):
        raise Broken("\n".join(found))
    return sum(1 for _ in out.rglob("*.html"))


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="scripts/site", description="Build the documentation site.")
    parser.add_argument("--mkdocs", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=WORK / "out", help="where to; default .tools/site/out")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep it there too, under its version")
    asked = parser.parse_args()
    try:
        pages = build(asked.mkdocs, asked.out.resolve(), is_kept=asked.keep is not None)
    except Broken as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{pages} pages are in {asked.out}; open its index.html, or serve the folder.")
    if asked.keep is not None:
        site_versions.keep(asked.out, _version(), asked.keep)
        print(f"{asked.keep} has {', '.join(site_versions.versions(asked.keep))}; serve that folder.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
