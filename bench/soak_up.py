"""That `scripts/up` comes back to the very same chain and wallet, however often it is started on one folder.

    scripts/soak up [--scale 100]

Each start ends by SIGTERM, as a service manager would end it, once it serves. What counts are the genesis hash that the
chain answers, the wallets that the server lists, and that no start leaves the chain out.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

DEFAULT_SCALE = 100
_ROOT = Path(__file__).resolve().parent.parent
_SERVES = "Guides:"
_WITHIN_S = 180

Json = dict[str, Any]


def run(scale: int | None = None, seed: int = 1) -> Json:
    """Starts it `scale` times; `failures` says which start came back to something else."""
    del seed  # nothing is left to chance here
    begun, starts = time.monotonic(), scale or DEFAULT_SCALE
    with tempfile.TemporaryDirectory(prefix="dustrun-starts-") as folder:
        seen = [_start(Path(folder) / "data") for _ in range(starts)]
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    first = seen[0]
    failures = [f"start {number}: {one}, not {first}" for number, one in enumerate(seen, 1) if one != first]
    if len(first["wallets"]) != 1:
        failures.append(f"the first start made {len(first['wallets'])} wallets")
    return {
        "starts": starts,
        "genesis": first["genesis"],
        "wallets": first["wallets"],
        "seconds": round(time.monotonic() - begun, 1),
        "processorSecondsPerStart": round((used.ru_utime + used.ru_stime) / starts, 2),
        "failures": failures,
    }


def _start(data: Path) -> Json:
    """One start until it serves, and what it came back to."""
    command = [sys.executable, "-u", str(_ROOT / "scripts" / "up.py"), "--data-dir", str(data), "--chain", "need"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DUSTRUN_")}
    environment = kept | {"HOME": str(data.parent)}  # the master key lies in the home folder
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        output = _until_it_serves(process)
        server, chain = (re.search(rf"{name}\s+(\S+)", output) for name in ("Dustrun is up on", "local chain"))
        if server is None or chain is None:
            return {"genesis": None, "wallets": [], "status": process.wait(), "output": output[-2000:]}
        found = {"genesis": _genesis(chain[1]), "wallets": _wallets(server[1], data)}
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=_WITHIN_S)
    return found | {"status": process.returncode}


def _until_it_serves(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if _SERVES in line:
            break
    return "".join(lines)


def _genesis(url: str) -> str:
    asked = {"jsonrpc": "2.0", "id": 1, "method": "eth_getBlockByNumber", "params": ["0x0", False]}
    return str(_load(urllib.request.Request(url, json.dumps(asked).encode(), _JSON))["result"]["hash"])


def _wallets(url: str, data: Path) -> list[list[str]]:
    key = (data / "owner.key").read_text().strip()
    request = urllib.request.Request(f"{url}/v1/wallets", headers={"Authorization": f"Bearer {key}"})
    return [[one["name"], one["address"]] for one in _load(request)["data"]["items"]]


_JSON = {"content-type": "application/json"}


def _load(request: urllib.request.Request) -> Any:
    with urllib.request.urlopen(request, timeout=_WITHIN_S) as answer:
        return json.load(answer)
