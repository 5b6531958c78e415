"""The first thing that `scripts/up` shows: `examples/price-check.json`, simulated, then live."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from price_source import PriceSource
from serving import Server

EXAMPLE = Path("examples/price-check.json")


def show(server: Server, source: PriceSource) -> int:
    """Simulates, then runs; proves that the dry run sent nothing and the real one exactly one notice."""
    workflow = _workflow(server)
    payload = payload_path(server.data)
    urls = {"priceUrl": f"http://{source.address}/price?symbol=ETH", "noticeUrl": f"http://{source.address}/notices"}
    payload.write_text(json.dumps(urls, indent=2))
    for words, title, expected in (
        (["--simulate"], "First a dry run: it reads the real price, and sends nothing.", 0),
        ([], "Now for real.", 1),
    ):
        print(f"{title}\n$ dustrun run 'Price check' --payload @{payload} {' '.join(words)}".rstrip(), flush=True)
        status = server.dustrun("run", workflow, "--payload", f"@{payload}", *words)
        if status != 0:
            return status
        if len(source.notices) != expected:
            print(f"The price source got {len(source.notices)} notices; {expected} were due.", file=sys.stderr)
            return 1
        print(f"The price source has received {expected} notice{'' if expected == 1 else 's'}.\n", flush=True)
    return 0


def payload_path(data: Path) -> Path:
    """Where the payload lies, for those who want to run it again."""
    return data / "price-check.json"


def _workflow(server: Server) -> str:
    """The id of the example workflow, created at the first start."""
    name = json.loads(EXAMPLE.read_text())["name"]
    for item in server.dustrun_json("workflow", "list", name)["items"]:
        if item["name"] == name:
            return str(item["id"])
    return str(server.dustrun_json("workflow", "create", str(EXAMPLE))["id"])
