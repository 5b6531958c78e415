"""Takes pictures and a film of the web app, on a real server with the local chain and what `scripts/up` does on it.
`scripts/pictures` calls it.

They are kept in docs/pictures, so that neither the site nor who reads the README needs a browser to have them: each
picture in both themes, as WebP, and the film as an animated one, which a page shows like a picture.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import struct
import sys
import tempfile
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Final, Literal

from devchain import chain as devchain
from devchain import demo, ladder
from playwright.sync_api import Browser, BrowserContext, Page
from price_source import PRICES, PriceSource
from serving import Server, free_port, serving

from dustrun.cli.http.client import Client
from dustrun.core.values import exact_json
from testkit.web.app import SHOWN_WITHIN_MS, browsing

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "docs" / "pictures"
THEMES: Final[tuple[Literal["light", "dark"], ...]] = ("light", "dark")
PICTURES: Final = ("first-page", "simulated-run", "policy", "approval")
_WITH_CANVAS: Final = ("/runs/", "/workflows/")
_SHOWN_EVENTS = 12
_WIDTH, _HEIGHT = 1200, 750
_QUALITY = 0.72
_ENCODE = """async ([picture, quality]) => {
  const bitmap = await createImageBitmap(await (await fetch('data:image/png;base64,' + picture)).blob())
  const canvas = Object.assign(document.createElement('canvas'), {width: bitmap.width, height: bitmap.height})
  canvas.getContext('2d').drawImage(bitmap, 0, 0)
  return canvas.toDataURL('image/webp', quality).split(',')[1]
}"""


class Studio:
    """A browser whose windows are signed in, and a blank page in which pictures become WebP."""

    def __init__(self, browser: Browser, server: Server) -> None:
        self._browser = browser
        self._server = server
        self._blank = browser.new_page()

    @contextlib.contextmanager
    def window(self, theme: Literal["light", "dark"]) -> Iterator[Page]:
        """One of a session of its own."""
        context = self._browser.new_context(
            viewport={"width": _WIDTH, "height": _HEIGHT}, color_scheme=theme, reduced_motion="reduce"
        )
        context.set_default_timeout(SHOWN_WITHIN_MS)
        self._sign_in(context)
        yield context.new_page()
        context.close()

    def _sign_in(self, context: BrowserContext) -> None:
        answer = context.request.post(f"{self._server.url}/v1/session", data={"key": self._server.key})
        assert answer.ok, answer.text()

    def open(self, page: Page, path: str) -> None:
        """A page of the app, when nothing is on its way any more."""
        page.goto(self._server.url + path)
        page.get_by_role("navigation", name="Main").wait_for()
        page.wait_for_load_state("networkidle")
        if path.startswith(_WITH_CANVAS):
            page.locator(".card").first.wait_for()

    def shoot(self, page: Page) -> bytes:
        """What is shown, as WebP."""
        picture = base64.b64encode(page.screenshot(animations="disabled", caret="hide")).decode()
        return base64.b64decode(self._blank.evaluate(_ENCODE, [picture, _QUALITY]))


# --- the film ---


def film(frames: list[tuple[bytes, int]], width: int, height: int) -> bytes:
    """An animated WebP of pictures and how many milliseconds each is shown; it begins anew for ever."""
    size = _number(width - 1, 3) + _number(height - 1, 3)
    chunks = [_chunk(b"VP8X", b"\x02\0\0\0" + size), _chunk(b"ANIM", b"\xff\xff\xff\xff" + _number(0, 2))]
    for picture, shown_ms in frames:
        place = _number(0, 3) + _number(0, 3) + size + _number(shown_ms, 3) + b"\x02"  # covers what was before
        chunks.append(_chunk(b"ANMF", place + _image(picture)))
    return _chunk(b"RIFF", b"WEBP" + b"".join(chunks))


def _image(picture: bytes) -> bytes:
    """The chunk of a still WebP that has its pixels."""
    at = 12
    while picture[at : at + 4] not in (b"VP8 ", b"VP8L"):
        at += 8 + _padded(struct.unpack_from("<I", picture, at + 4)[0])
    return picture[at : at + 8 + _padded(struct.unpack_from("<I", picture, at + 4)[0])]


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def _number(value: int, length: int) -> bytes:
    return value.to_bytes(length, "little")


def _padded(length: int) -> int:
    return length + length % 2


# --- what is shown ---


def _ask_first(client: Client, made: demo.Demo) -> str:
    """Starts a live run that a person has to approve; gives the approval's id."""
    place = f"/v1/wallets/{made.wallet['id']}/policy"
    policy = client.get(place)["policy"] | {"approvalAbove": {"usd": "100"}}
    client.put(place, {"policy": policy})
    payload = exact_json.loads_own(made.payload.read_bytes())
    client.post(f"/v1/workflows/{made.workflow_id}/run", {"payload": payload})
    while not (waiting := client.get("/v1/approvals", limit=10)["items"]):
        time.sleep(0.05)
    return str(waiting[0]["id"])


def _pages(client: Client, made: demo.Demo) -> dict[str, str]:
    """The pages that are shown, by the names of their pictures; and those of the film alone."""
    runs = [run for run in client.get("/v1/runs", limit=10)["items"] if run["workflowId"] == made.workflow_id]
    by_mode = {run["mode"]: f"/runs/{run['id']}" for run in runs}
    return {
        "first-page": "/",
        "simulated-run": by_mode["simulate"],
        "policy": f"/wallets/{made.wallet['id']}",
        "reports": f"/workflows/{made.workflow_id}",
        "approval": f"/approvals/{_ask_first(client, made)}",
    }


def _play(studio: Studio, page: Page, pages: dict[str, str]) -> Iterator[tuple[bytes, int]]:
    """The frames of the film: a workflow as it was simulated, step by step, what it moved in each of the three modes,
    and a spend that waits for a person."""
    studio.open(page, pages["first-page"])
    yield studio.shoot(page), 2500
    studio.open(page, pages["simulated-run"])
    back = page.get_by_role("button", name="Step back")
    for _ in range(_SHOWN_EVENTS):
        back.click()
    for _ in range(0, _SHOWN_EVENTS, 3):
        yield studio.shoot(page), 700
        for _ in range(3):
            page.get_by_role("button", name="Step forward").click()
    yield studio.shoot(page), 2500
    page.get_by_role("tab", name="What moved").click()
    page.wait_for_load_state("networkidle")
    yield studio.shoot(page), 3000
    studio.open(page, pages["reports"])
    yield studio.shoot(page), 3500
    studio.open(page, pages["approval"])
    yield studio.shoot(page), 3500


def take(out: Path) -> None:
    """All of them."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dustrun-pictures-")))
        source = PriceSource()
        source.start()
        chain = stack.enter_context(devchain.opened(folder / "devchain", free_port(), Decimal(PRICES["ETH"])))
        settings = {
            "DUSTRUN_OUTBOUND_ALLOW": source.address,
            "DUSTRUN_NETWORKS_DIR": str(chain.networks_dir),
            "DUSTRUN_MASTER_KEY_FILE": str(folder / "master.key"),
        }
        server = stack.enter_context(serving(folder, free_port(), settings))
        if ladder.show(server, chain, source) != 0:
            raise SystemExit("the example did not succeed; nothing was taken")
        studio = Studio(stack.enter_context(browsing()), server)
        client = Client(server.url, server.key)
        _take_all(studio, client, demo.prepare(client, chain, f"http://{source.address}/notices"), out)


def _take_all(studio: Studio, client: Client, made: demo.Demo, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    pages = _pages(client, made)
    for theme in THEMES:
        with studio.window(theme) as page:
            for name in PICTURES:
                studio.open(page, pages[name])
                (out / f"{name}-{theme}.webp").write_bytes(studio.shoot(page))
    with studio.window("light") as page:
        (out / "film.webp").write_bytes(film(list(_play(studio, page, pages)), _WIDTH, _HEIGHT))


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="scripts/pictures", description="Take the pictures of the web app anew.")
    parser.add_argument("--out", type=Path, default=OUT, help="where to; default docs/pictures")
    out = parser.parse_args().out.resolve()
    take(out)
    sizes = {picture.name: picture.stat().st_size for picture in sorted(out.glob("*.webp"))}
    print(*(f"{size:>8} {name}" for name, size in sizes.items()), f"{sum(sizes.values()):>8} bytes", sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
