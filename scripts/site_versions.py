"""Keeps the documentation sites of all versions in one folder: each under its version, with a list that the selector of
every site reads, and `latest`, which leads to the pages of the newest release.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Final

from packaging.version import InvalidVersion, Version

LATEST: Final = "latest"
_LIST: Final = "versions.json"
_LEAD: Final = """<!doctype html>
<meta charset="utf-8">
<title>{to}</title>
<link rel="canonical" href="{to}">
<script>location.replace("{to}" + location.search + location.hash)</script>
<meta http-equiv="refresh" content="0; url={to}">
<a href="{to}">{to}</a>
"""


def keep(site: Path, version: str, folder: Path) -> None:
    """Puts a built site under its version; those of other versions stay as they are."""
    place = folder / str(Version(version))
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(site, place)
    kept = versions(folder)
    released = next((one for one in kept if not Version(one).is_prerelease), kept[0])
    listed = [{"version": one, "title": one, "aliases": [LATEST] if one == released else []} for one in kept]
    (folder / _LIST).write_text(json.dumps(listed, indent=2) + "\n")
    _lead_to(folder / released, folder / LATEST)
    (folder / "index.html").write_text(_LEAD.format(to=f"{LATEST}/index.html"))


def versions(folder: Path) -> list[str]:
    """Those that are kept, the newest first."""
    found = []
    for place in folder.iterdir():
        try:
            found.append(Version(place.name))
        except InvalidVersion:
            continue
    return [str(version) for version in sorted(found, reverse=True)]


def _lead_to(site: Path, place: Path) -> None:
    """A page for each page of a site, that leads there: a link to the latest page stays right for ever."""
    shutil.rmtree(place, ignore_errors=True)
    for page in site.rglob("*.html"):
        leads = place / page.relative_to(site)
        leads.parent.mkdir(parents=True, exist_ok=True)
        leads.write_text(_LEAD.format(to=Path(os.path.relpath(page, leads.parent)).as_posix()))
