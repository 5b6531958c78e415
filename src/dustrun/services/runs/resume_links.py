"""Links that resume one waiting node of one run, signed with a secret that only this server knows.

A link is a capability: whoever holds it may use it, once. Its token covers organisation, run and node path (with the
loop items in it), so that no link leads anywhere else.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from pathlib import Path
from urllib.parse import quote, urlencode

from dustrun import ids
from dustrun.errors import Permanent
from dustrun.storage.db import store_facts
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer

_FILE = "link.key"
_PREFIX = "dlk_"


class ResumeLinks:
    """Makes and checks links."""

    def __init__(self, secret: bytes, base_url: str) -> None:
        self._secret = secret
        self._base_url = base_url

    def token(self, org_id: str, run_id: str, path: str) -> str:
        """The token that grants the right to resume that node."""
        digest = hmac.new(self._secret, f"resume\n{org_id}\n{run_id}\n{path}".encode(), hashlib.sha256)
        return _PREFIX + digest.hexdigest()

    def make(self, org_id: str, run_id: str, path: str) -> str:
        """The whole link; a POST to it resumes the node."""
        query = urlencode({"org": org_id, "token": self.token(org_id, run_id, path)})
        return f"{self._base_url}/v1/runs/{quote(run_id)}/nodes/{quote(path, safe='')}/resume?{query}"

    def is_good(self, token: str, org_id: str, run_id: str, path: str) -> bool:
        """Whether the token belongs to that node."""
        return hmac.compare_digest(token.encode(), self.token(org_id, run_id, path).encode())


def secret_of(data_dir: Path) -> bytes:
    """The server's secret: made at the first start, in a file that only its user can read."""
    path = data_dir / _FILE
    try:
        return _read(path)
    except FileNotFoundError:
        pass
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(ids.new_secret("link", 64) + "\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path)
    return _read(path)


async def shared_secret_of(data_dir: Path, writer: Writer) -> bytes:
    """The secret of servers that share a store: that of the first one."""
    own = secret_of(data_dir).decode()

    def unit(tx: Tx) -> str:
        stored = store_facts.find(tx, store_facts.LINK_SECRET)
        if stored is None:
            store_facts.put(tx, store_facts.LINK_SECRET, own)
        return stored or own

    return (await writer.write(unit)).encode()


def _read(path: Path) -> bytes:
    text = path.read_text().strip()
    if len(text) < 32:
        message = f"{path} is no key of ours; restore it, or remove it, which ends the links that were given out."
        raise Permanent(message)
    return text.encode()
