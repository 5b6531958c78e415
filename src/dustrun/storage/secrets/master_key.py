"""The master key: a file outside the data and its backups; it wraps the organisations' data keys.

Each line holds a key's id and the key. The first key wraps new data keys; the others still unwrap old ones. The id is
derived from the key, so that a wrong file is recognised before anything is decrypted with it.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import os
from pathlib import Path

from dustrun.errors import Code, Temporary
from dustrun.records import dataclass
from dustrun.storage.secrets import sealing

SETTING = "the setting master_key_file (DUSTRUN_MASTER_KEY_FILE)"
_HEAD = "# Dustrun master key. Without it no stored secret can be read: keep a copy, apart from backups of the data.\n"
_OTHERS = 0o077


@dataclass(frozen=True, slots=True)
class MasterKey:
    """One master key and its id."""

    id: str
    key: bytes

    @classmethod
    def of(cls, key: bytes) -> MasterKey:
        """Creates the master key with its derived id."""
        return cls("mk_" + hashlib.sha256(b"dustrun master key\n" + key).hexdigest()[:16], key)

    def __repr__(self) -> str:
        """Shows the id but not the key."""
        return f"MasterKey({self.id})"


def new_master_key() -> MasterKey:
    """Generates a random master key."""
    return MasterKey.of(sealing.new_key())


def locked(message: str) -> Temporary:
    """The error for an unusable master key (503003): nothing was done, and only the operator can fix it."""
    return Temporary(message, code=Code.VAULT_LOCKED, retry_after_s=60)


class MasterKeyFile:
    """The master key file. It is refused if other users can read it, so that careless copies are noticed."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser()

    def read(self) -> list[MasterKey]:
        """Reads the keys, the current one first; empty if there is no file. Raises `Temporary` (503003) with the
        fix.
        """
        try:
            mode = self.path.stat().st_mode
            text = self.path.read_text(encoding="ascii")
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError) as error:
            raise locked(f'The master key file "{self.path}" cannot be read: {error}.') from None
        if mode & _OTHERS:
            raise locked(
                f'The master key file "{self.path}" is accessible to other users (mode {mode & 0o777:04o}). '
                f"Fix it: chmod 600 {self.path}"
            )
        lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
        if not lines:
            raise locked(
                f'The master key file "{self.path}" contains no key; put the right file back, or move it away.'
            )
        return [self._parse(line) for line in lines]

    def _parse(self, line: str) -> MasterKey:
        name, _, encoded = line.strip().partition(" ")
        try:
            found = MasterKey.of(base64.b64decode(encoded.strip(), validate=True))
        except binascii.Error:
            found = None
        if found is None or len(found.key) != sealing.KEY_BYTES or found.id != name:
            raise locked(
                f'The master key file "{self.path}" is damaged: a line is not a key with its id. Put a good copy back.'
            )
        return found

    def create(self) -> MasterKey:
        """Creates the file with one new key; never overwrites a file. Raises `Temporary` (503003)."""
        key = new_master_key()
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh = self._write_beside([key])
            with contextlib.suppress(FileExistsError):
                os.link(fresh, self.path)  # unlike a rename, a link fails if another process has created the file
            fresh.unlink()
            self._sync_folder()
        except OSError as error:
            raise locked(
                f'The master key file "{self.path}" cannot be created: {error}. Make its folder writable, or choose '
                f"another path with {SETTING}."
            ) from error
        return self.read()[0]

    def replace(self, keys: list[MasterKey]) -> None:
        """Replaces the file's keys atomically. Raises `Temporary` (503003)."""
        try:
            self._write_beside(keys).replace(self.path)
            self._sync_folder()
        except OSError as error:
            raise locked(f'The master key file "{self.path}" cannot be written: {error}.') from error

    def _write_beside(self, keys: list[MasterKey]) -> Path:
        fresh = self.path.with_name(f"{self.path.name}.{os.getpid()}.new")
        fresh.unlink(missing_ok=True)
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(_HEAD + "".join(f"{key.id} {base64.b64encode(key.key).decode()}\n" for key in keys))
            file.flush()
            os.fsync(file.fileno())
        return fresh

    def _sync_folder(self) -> None:
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
