"""The web app as it is served: to whom, under which policy, and how long browsers keep it."""

from __future__ import annotations

import gzip
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from dustrun.api.pages import Pages
from dustrun.api.server import create_app
from testkit.composition import Composition

HTML = {"Accept": "text/html,application/xhtml+xml"}
SCRIPT = "let a = 1;" * 100


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A built app."""
    assets = tmp_path / "web" / "assets"
    assets.mkdir(parents=True)
    (assets.parent / "index.html").write_text('<meta name="csp-nonce" content="__NONCE__">')
    (assets.parent / "stamp.txt").write_text("hash")
    (assets / "index-abc.js").write_text(SCRIPT)
    return assets.parent


@pytest.fixture
async def http(server: Composition, folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(server.app.parts, pages=Pages(folder))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8080") as http:
        yield http


@pytest.mark.parametrize("path", ["/", "/runs", "/workflows/wf_1", "/whatever/there/is"])
async def test_a_person_gets_the_page_at_every_path(http: httpx.AsyncClient, path: str) -> None:
    first, second = [await http.get(path, headers=HTML) for _ in range(2)]
    nonces = {re.search(r'content="([\w-]+)"', one.text)[1] for one in (first, second)}  # type: ignore[index]
    assert (first.status_code, len(nonces), "__NONCE__" in first.text) == (200, 2, False)
    policy = first.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert re.search(r"'nonce-([\w-]+)'", policy)[1] in first.text  # type: ignore[index]
    assert (first.headers["cache-control"], first.headers["x-content-type-options"]) == ("no-store", "nosniff")


@pytest.mark.parametrize(
    ("path", "status", "code"), [("/", 200, 200), ("/runs", 404, 404000), ("/workflows/wf_1", 404, 404000)]
)
async def test_a_program_gets_json(http: httpx.AsyncClient, path: str, status: int, code: int) -> None:
    answer = await http.get(path, headers={"Accept": "*/*"})
    assert (answer.status_code, answer.json()["code"] // 1000 * 1000 if status == 404 else 200) == (status, code)


@pytest.mark.parametrize("path", ["/v1/nothing", "/docs/nothing", "/assets/nothing.js", "/assets/..%2Fstamp.txt"])
async def test_what_is_not_there_is_no_page(http: httpx.AsyncClient, path: str) -> None:
    assert (await http.get(path, headers=HTML)).status_code == 404


async def test_only_reads_find_pages(http: httpx.AsyncClient) -> None:
    assert (await http.post("/runs", headers=HTML)).status_code == 404


async def test_browsers_keep_files_and_get_them_small(http: httpx.AsyncClient) -> None:
    for accepted, encoding in (("gzip", "gzip"), ("identity", None)):
        answer = await http.get("/assets/index-abc.js", headers={"Accept-Encoding": accepted})
        assert (answer.text, answer.headers.get("content-encoding")) == (SCRIPT, encoding)
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["vary"] == "Accept-Encoding"
    assert int((await http.get("/assets/index-abc.js")).headers["content-length"]) < len(gzip.compress(b"")) + 100


async def test_without_an_app_the_root_says_what_there_is(server: Composition, tmp_path: Path) -> None:
    app = create_app(server.app.parts, pages=Pages(tmp_path / "none"))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8080") as http:
        root, other = await http.get("/", headers=HTML), await http.get("/runs", headers=HTML)
    assert "This server has no web app" in root.text
    assert (other.status_code, other.json()["code"] // 1000) == (404, 404)
