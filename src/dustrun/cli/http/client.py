"""A small HTTP client for one Dustrun server: unwraps `data`, raises `CliError`, keeps numbers exact."""

from __future__ import annotations

import http.client
import os
import ssl
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from dustrun.cli.http.failures import CliError, Exit, hint_for
from dustrun.core.values import exact_json
from dustrun.storage.db import server_file

DEFAULT_SERVER = "http://127.0.0.1:8080"
_TIMEOUT_S = 60.0


class Unreachable(CliError):
    """The server did not answer; the request may or may not have arrived."""

    def __init__(self, server: str, cause: Exception) -> None:
        super().__init__(
            f"No answer from {server}: {cause or type(cause).__name__}.",
            exit=Exit.SERVER,
            hint="Is the server running? `dustrun serve` starts one and `dustrun doctor` runs checks; --server or "
            "DUSTRUN_SERVER sets its address.",
        )


def data_folder() -> Path:
    """The data folder of this machine's server."""
    return Path(os.environ.get("DUSTRUN_DATA_DIR", "data"))


def key_file() -> Path:
    """The path to which the server writes the owner key at its first start."""
    return data_folder() / "owner.key"


def find_server(given: str, folder: Path | None = None) -> str:
    """The given address, else that of the server that runs on the data folder, else the default one."""
    if given:
        return given
    running = server_file.read(folder or data_folder())
    return DEFAULT_SERVER if running is None else running.address


def find_key(given: str | None) -> str | None:
    """The given key, else the owner key if this user can read it."""
    if given:
        return given.strip()
    try:
        return key_file().read_text().strip()
    except OSError:
        return None


def segment(text: str) -> str:
    """Percent-encodes a text as one path segment."""
    return quote(text, safe="")


class Client:
    """Calls one server with one API key; every call opens its own connection."""

    def __init__(self, server: str, key: str | None, timeout_s: float = _TIMEOUT_S) -> None:
        parts = urlsplit(server if "://" in server else f"http://{server}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise CliError(f'"{server}" is not a server address.', hint=f"Write it like {DEFAULT_SERVER}.")
        self.server = f"{parts.scheme}://{parts.netloc}{parts.path}".rstrip("/")
        self._parts = parts
        self._key = key
        self._timeout_s = timeout_s

    def get(self, path: str, **query: Any) -> Any:
        """Sends a GET and returns `data`; omits parameters that are None."""
        given = [(name, str(value)) for name, value in query.items() if value is not None]
        return self.call("GET", f"{path}?{urlencode(given)}" if given else path)

    def post(self, path: str, body: Any = None) -> Any:
        """Sends a POST and returns `data`."""
        return self.call("POST", path, body)

    def put(self, path: str, body: Any) -> Any:
        """Sends a PUT and returns `data`."""
        return self.call("PUT", path, body)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Sends a request and returns the response; raises `CliError` for a failure, `Unreachable` without a
        response.
        """
        response, connection = self.open(method, path, body)
        try:
            text = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(self.server, error) from error
        finally:
            connection.close()
        return self._unwrap(response, text)

    def open(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[http.client.HTTPResponse, http.client.HTTPConnection]:
        """Sends a request and returns once the response headers arrive. The caller closes the connection."""
        connection = self._connection()
        # a definition that is printed, and imported again, has the numbers that it had (decision 0109)
        exact = {"Dustrun-Exact-Numbers": "true"}
        sent = {"Accept": "application/json", "User-Agent": "dustrun-cli", **exact, **(headers or {})}
        if self._key:
            sent["Authorization"] = f"Bearer {self._key}"
        encoded = None
        if body is not None:
            sent["Content-Type"] = "application/json"
            encoded = exact_json.dumps(body)
        try:
            connection.request(method, self._parts.path.rstrip("/") + path, encoded, sent)
            return connection.getresponse(), connection
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise Unreachable(self.server, error) from error

    def raise_failure(self, response: http.client.HTTPResponse) -> None:
        """Reads a failure response and raises it as `CliError`."""
        self._unwrap(response, response.read())

    def _connection(self) -> http.client.HTTPConnection:
        host, port = self._parts.hostname or "", self._parts.port
        if self._parts.scheme == "https":
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(host, port, timeout=self._timeout_s, context=context)
        return http.client.HTTPConnection(host, port, timeout=self._timeout_s)

    def _unwrap(self, response: http.client.HTTPResponse, text: bytes) -> Any:
        try:
            envelope = exact_json.loads_own(text)
        except exact_json.JsonError:
            envelope = None
        if not isinstance(envelope, dict) or "code" not in envelope:
            message = f"{self.server} answered {response.status}, but not like a Dustrun server."
            raise CliError(message, exit=Exit.SERVER, hint="Is --server the address of a Dustrun server?")
        if response.status < 300:
            return _told(envelope.get("data"))
        raise CliError(
            envelope.get("message", "failure"),
            exit=Exit.SERVER if response.status >= 500 else Exit.USAGE,
            hint=hint_for(envelope["code"]),
            code=envelope["code"],
            details=envelope.get("details") or (),
            request_id=envelope.get("requestId"),
        )


class _Part(dict[str, Any]):
    """An answer of which the key may read only a part; what is not in it is None."""

    def __missing__(self, name: str) -> None:
        return None


def _told(data: Any) -> Any:
    """The answer, with a line on standard error if the key may read only a part of it."""
    if not isinstance(data, dict) or "hiddenWithout" not in data:
        return data
    sys.stderr.write(f"Done. The key lacks {data['hiddenWithout']}, so the rest of the answer is not shown.\n")
    return _part(data)


def _part(value: Any) -> Any:
    if isinstance(value, list):
        return [_part(item) for item in value]
    return _Part({name: _part(item) for name, item in value.items()}) if isinstance(value, dict) else value
