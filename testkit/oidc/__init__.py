"""A real identity provider: `oidc-provider` in a Node process of its own."""

from __future__ import annotations

import html
import json
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import requests

from testkit.e2e.node import npm_install
from testkit.ports import free_port

_FOLDER = Path(__file__).parent
CLIENT, SECRET = "dustrun", "secret-of-the-client"


class RealProvider:
    """The provider, whose people are those that it is told of."""

    def __init__(self, redirect_uri: str) -> None:
        self.port = free_port()
        self.url = f"http://localhost:{self.port}"
        command = ["node", "server.mjs", str(self.port), CLIENT, SECRET, redirect_uri]
        self._process = subprocess.Popen(command, cwd=_FOLDER, env=npm_install(_FOLDER), stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        while (line := self._process.stdout.readline()) and line != b"ready\n":
            pass
        assert line, "the identity provider has ended"

    def tell(self, **what: Any) -> None:
        """Tells it who its people are (`people`, by subject), or what time it is (`aheadMs`)."""
        requests.post(f"http://127.0.0.1:{self.port}/test", data=json.dumps(what), timeout=30).raise_for_status()

    def sign_in(self, url: str, name: str) -> dict[str, str]:
        """What it sends a browser back with that was sent to `url`, where somebody gives a name."""
        browser = requests.Session()
        answer = browser.get(url, timeout=30)
        assert "<form" in answer.text, html.unescape(answer.text)[:1_000]
        answer = browser.post(answer.url, data={"name": name}, timeout=30, allow_redirects=False)
        while (to := urljoin(answer.url, answer.headers["location"])).startswith(self.url):
            answer = browser.get(to, timeout=30, allow_redirects=False)
        found = {name: values[0] for name, values in parse_qs(urlsplit(to).query).items()}
        return {"errorDescription" if name == "error_description" else name: found[name] for name in found}

    def close(self) -> None:
        """Ends it."""
        self._process.terminate()
        self._process.wait(30)
        if self._process.stdout is not None:
            self._process.stdout.close()
