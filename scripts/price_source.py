"""A small outside world to try workflows on: tells a price, and takes notices. Listens on loopback only.

GET /price?symbol=ETH   {"symbol": "ETH", "usd": 3127.418290517364281904}
GET /orders             a list of orders with prices in cents
POST /notices           keeps the JSON body; the same Idempotency-Key again adds nothing
GET /notices            what was kept
GET /flaky              fails with 503 at first, answers at the third request
"""

from __future__ import annotations

import argparse
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

PRICES = {"ETH": "3127.418290517364281904", "BTC": "97251.05", "USDC": "0.999871"}
ORDERS = [
    {"id": "o-1", "item": "tea", "cents": 1250, "paid": True},
    {"id": "o-2", "item": "kettle", "cents": 48999, "paid": False},
    {"id": "o-3", "item": "cup", "cents": 799, "paid": True},
]
_MAX_BODY = 1_000_000


class PriceSource(ThreadingHTTPServer):
    """The server, with what it was sent."""

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.lock = threading.Lock()
        self.notices: list[Any] = []
        self.keys: dict[str, int] = {}
        self.flaky = 0

    @property
    def address(self) -> str:
        """Host and port, as the allow-list names it."""
        return f"127.0.0.1:{self.server_address[1]}"

    def start(self) -> None:
        """Serves in a thread of its own until the process ends."""
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def take(self, notice: Any, key: str | None) -> tuple[int, int]:
        """Keeps a notice and answers status and number; a key that was seen before adds nothing."""
        with self.lock:
            if key is not None and key in self.keys:
                return 200, self.keys[key]
            self.notices.append(notice)
            if key is not None:
                self.keys[key] = len(self.notices)
            return 201, len(self.notices)

    def try_flaky(self) -> bool:
        """Whether this request may succeed: every third one does."""
        with self.lock:
            self.flaky += 1
            return self.flaky % 3 == 0


class _Handler(BaseHTTPRequestHandler):
    server: PriceSource
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if parts.path == "/price":
            self._price(parse_qs(parts.query).get("symbol", ["ETH"])[0])
        elif parts.path == "/orders":
            self._answer(200, json.dumps({"orders": ORDERS}))
        elif parts.path == "/notices":
            self._answer(200, json.dumps({"notices": self.server.notices}))
        elif parts.path == "/flaky":
            works = self.server.try_flaky()
            self._answer(200 if works else 503, json.dumps({"works": works}))
        else:
            self._answer(404, json.dumps({"error": f"there is no {parts.path}"}))

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if length > _MAX_BODY:
            self._answer(413, json.dumps({"error": "too large"}))
            return
        body = self.rfile.read(length)
        if urlsplit(self.path).path != "/notices":
            self._answer(404, json.dumps({"error": "POST goes to /notices"}))
            return
        try:
            notice = json.loads(body)
        except ValueError:
            self._answer(400, json.dumps({"error": "not JSON"}))
            return
        status, number = self.server.take(notice, self.headers.get("Idempotency-Key"))
        self._answer(status, json.dumps({"received": number}))

    def _price(self, symbol: str) -> None:
        price = PRICES.get(symbol)
        if price is None:
            self._answer(404, json.dumps({"error": f"no price for {symbol}"}))
        else:
            self._answer(200, f'{{"symbol": "{symbol}", "usd": {price}}}')

    def _answer(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Keeps the terminal quiet."""


def main() -> None:
    """Serves until it is stopped; the first line of output is the address."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    source = PriceSource(parser.parse_args().port)
    print(f"http://{source.address}", flush=True)
    source.serve_forever()


if __name__ == "__main__":
    main()
