"""The interactive documentation at `/docs`: Swagger UI, served from an installed package, not from a CDN."""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from importlib import resources

from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response

_PACKAGE = "fastapi_offline"
_ASSETS = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Dustrun API</title>
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script>SCRIPT</script>
</body>
</html>
"""
_SCRIPT = """
SwaggerUIBundle({
  url: "openapi.json", dom_id: "#swagger-ui", deepLinking: true,
  presets: [SwaggerUIBundle.presets.apis], layout: "BaseLayout"
});
"""
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; connect-src 'self'; img-src 'self' data:; "
    "style-src 'self' 'unsafe-inline'; script-src 'self' 'sha256-"
    + base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    + "'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
"""The page asks for an API key: no foreign script may run in it, and no foreign page may show it in a frame."""
PLACES = {"docs": "/docs", "openapi": "/openapi.json", "api": "/v1", "health": "/healthz", "ready": "/readyz"}
"""The answer of `/` to programs."""
INDEX = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Dustrun</title>
</head>
<body>
<h1>Dustrun</h1>
<p>This server has no web app; use its <a href="docs">API documentation</a>, its
<a href="openapi.json">OpenAPI description</a>, or the command line: <code>dustrun --help</code>.</p>
</body>
</html>
"""


@lru_cache(maxsize=4)
def _read(name: str) -> bytes:
    return (resources.files(_PACKAGE) / "static" / name).read_bytes()


def page() -> Response:
    """The page itself."""
    return HTMLResponse(_PAGE.replace("SCRIPT", _SCRIPT), headers=_HEADERS)


def asset(name: str) -> Response:
    """Serves a script or style sheet of the page."""
    if name not in _ASSETS:
        raise HTTPException(404)
    return Response(
        _read(name), media_type=_ASSETS[name], headers={**_HEADERS, "Cache-Control": "public, max-age=86400"}
    )
