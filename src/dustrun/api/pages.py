"""The web app at `/`: the page, with a policy that lets it run nothing but its own files, and those files.

The files are built from `web/` by `scripts/build_web.py`; a checkout without them serves the API alone.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
from pathlib import Path
from typing import Any, Final

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import Response

from dustrun import ids
from dustrun.records import dataclass

FOLDER: Final = Path(__file__).resolve().parent.parent / "web"
_NONCE: Final = "__NONCE__"
_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
}
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'nonce-{nonce}'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; worker-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
_COMMON: Final = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
_NOT_PAGES: Final = ("/v1/", "/assets/", "/docs")


@dataclass(frozen=True, slots=True)
class _File:
    plain: bytes
    zipped: bytes


class Pages:
    """The built app. Files are read when they are first asked for, and kept: their names change with their content."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._folder = folder
        self._files: dict[str, _File] = {}

    @property
    def is_built(self) -> bool:
        """Whether there is an app to show."""
        return (self._folder / "index.html").is_file()

    def is_page(self, method: str, path: str, headers: Headers) -> bool:
        """Whether a person asks for a page of the app, so that a program still learns that a path is unknown."""
        asks = method == "GET" and "text/html" in headers.get("accept", "")
        return asks and not path.startswith(_NOT_PAGES) and self.is_built

    def page(self) -> Response:
        """The one page, with a nonce of its own; it reads the path by itself."""
        nonce = base64.urlsafe_b64encode(ids.new_entropy(18)).decode()
        text = (self._folder / "index.html").read_text(encoding="utf-8").replace(_NONCE, nonce)
        headers = {"Content-Security-Policy": _POLICY.format(nonce=nonce), "Cache-Control": "no-store"}
        return Response(text, media_type="text/html", headers=_COMMON | headers)

    async def asset(self, name: str, headers: Headers) -> Response:
        """A file whose name has the hash of its content, so that browsers keep it."""
        kind = _TYPES.get(Path(name).suffix)
        path = self._folder / "assets" / name
        if kind is None or Path(name).name != name or not path.is_file():
            raise HTTPException(404)
        if name not in self._files:
            self._files[name] = await asyncio.to_thread(_read, path)
        return _answer(self._files[name], kind, headers)


def _read(path: Path) -> _File:
    plain = path.read_bytes()
    return _File(plain, gzip.compress(plain, 9))


def _answer(file: _File, kind: str, asked: Headers) -> Response:
    headers: dict[str, Any] = {"Cache-Control": "public, max-age=31536000, immutable", "Vary": "Accept-Encoding"}
    takes_gzip = "gzip" in asked.get("accept-encoding", "") and len(file.zipped) < len(file.plain)
    if takes_gzip:
        headers["Content-Encoding"] = "gzip"
    return Response(file.zipped if takes_gzip else file.plain, media_type=kind, headers=_COMMON | headers)
