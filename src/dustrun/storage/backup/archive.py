"""The backup file format, the same for both databases: a ZIP of `manifest.json`, its MAC in `manifest.mac`, and one
`tables/NAME.jsonl` per table.

Each line of a table is one row as a JSON list in the order of the manifest's `columns`: integers, texts, nulls, and
bytes as `{"hex": "…"}`. The manifest has the version and time of the backup, the schema revision, and for each table
its
row count and the SHA-256 of its lines. It lists the tables in an order that satisfies their foreign keys.
"""

from __future__ import annotations

import hashlib
import hmac
import lzma
import os
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final

import orjson
from pydantic import Field, TypeAdapter, ValidationError

from dustrun.errors import Permanent
from dustrun.records import dataclass
from dustrun.storage.secrets.master_key import SETTING, MasterKey

FORMAT = "dustrun-backup"
FORMAT_VERSION = 2
_MANIFEST = "manifest.json"
_MAC = "manifest.mac"
_MAC_PURPOSE = b"dustrun backup manifest"
_PIECE = 1000
_MAX_MANIFEST = 1_048_576
_MAX_LINE = 67_108_864  # far above the size of any row; a file that claims more would exhaust the memory
_CELL: Final = (int, str, dict, type(None))
_LAST_MS = 253_402_300_799_999  # the year 9999
# what `zipfile` and its decoders raise for a file that is not a ZIP, encrypted, or modified
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    KeyError,
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
)
Row = Sequence[Any]


@dataclass(frozen=True, slots=True)
class TableEntry:
    """The manifest's entry for one table."""

    name: str
    columns: tuple[str, ...]
    rows: Annotated[int, Field(ge=0)]
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """A backup's manifest; `taken_at` in milliseconds."""

    dustrun: str
    schema: str
    dialect: str
    taken_at: Annotated[int, Field(ge=0, le=_LAST_MS)]
    tables: tuple[TableEntry, ...]


_MANIFEST_TYPE = TypeAdapter(Manifest)


def _bytes_out(value: Any) -> dict[str, str]:
    if isinstance(value, bytes | memoryview):
        return {"hex": bytes(value).hex()}
    raise TypeError(f"a table holds a {type(value).__name__}")


def _bytes_in(value: dict[str, str]) -> bytes:
    return bytes.fromhex(value["hex"])


def _mac(key: MasterKey, manifest: bytes) -> str:
    """The MAC of a manifest, which has the checksums of all tables; by a key derived from the master key."""
    derived = hmac.digest(key.key, _MAC_PURPOSE, "sha256")
    return hmac.digest(derived, manifest, "sha256").hex()


class ArchiveWriter:
    """Writes a backup to a temporary file and renames it once it is complete and synced to disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._partial = path.with_name(path.name + ".partial")
        self._partial.unlink(missing_ok=True)
        handle = os.open(self._partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._file = os.fdopen(handle, "wb")
        self._zip = zipfile.ZipFile(self._file, "w", zipfile.ZIP_DEFLATED, compresslevel=6)
        self._tables: list[TableEntry] = []

    def add_table(self, name: str, columns: Sequence[str], rows: Iterable[Row]) -> TableEntry:
        """Writes a table with all its rows."""
        digest, count = hashlib.sha256(), 0
        with self._zip.open(f"tables/{name}.jsonl", "w", force_zip64=True) as out:
            for row in rows:
                line = orjson.dumps(list(row), default=_bytes_out) + b"\n"
                digest.update(line)
                out.write(line)
                count += 1
        entry = TableEntry(name, tuple(columns), count, digest.hexdigest())
        self._tables.append(entry)
        return entry

    def finish(self, *, dustrun: str, schema: str, dialect: str, taken_at: int, key: MasterKey | None) -> Manifest:
        """Writes the manifest with its MAC, if there is a key, and renames the file to its final name."""
        manifest = Manifest(dustrun, schema, dialect, taken_at, tuple(self._tables))
        described = {"format": FORMAT, "formatVersion": FORMAT_VERSION, **asdict(manifest)}
        text = orjson.dumps(described, option=orjson.OPT_INDENT_2)
        self._zip.writestr(_MANIFEST, text)
        if key is not None:
            self._zip.writestr(_MAC, orjson.dumps({"key": key.id, "hmacSha256": _mac(key, text)}))
        self._zip.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._partial.replace(self._path)
        return manifest

    def drop(self) -> None:
        """Deletes the unfinished file."""
        self._file.close()
        self._partial.unlink(missing_ok=True)


class Archive:
    """A backup opened for reading. Raises `Permanent` if the file is damaged or unknown."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._zip = zipfile.ZipFile(path)
            with self._zip.open(_MANIFEST) as member:
                text = member.read(_MAX_MANIFEST)
        except FileNotFoundError:
            raise Permanent(f'There is no file "{path}".') from None
        except _BROKEN as error:
            raise self._damaged(f"it is not a Dustrun backup, or it is incomplete ({error})") from error
        self._text = text
        self.manifest = self._read_manifest(text)

    def _damaged(self, reason: str) -> Permanent:
        return Permanent(
            f'The file "{self._path}" cannot be restored: {reason}. Nothing was changed; use another backup.'
        )

    def _read_manifest(self, text: bytes) -> Manifest:
        try:
            found = orjson.loads(text)
            if found["format"] != FORMAT:
                raise self._damaged("its manifest was written by another program")
            if found["formatVersion"] > FORMAT_VERSION:
                raise Permanent(
                    f'The file "{self._path}" has format {found["formatVersion"]}, made by Dustrun '
                    f"{found['dustrun']}; this version reads formats up to {FORMAT_VERSION}. Use that version."
                )
            return _MANIFEST_TYPE.validate_python(found)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise self._damaged(f"its manifest was modified ({where}: {first['msg']})") from error
        except (KeyError, TypeError, ValueError) as error:
            raise self._damaged(f"its manifest was modified ({error})") from error

    def authenticate(self, masters: Sequence[MasterKey], path: Path) -> None:
        """Verifies the manifest's MAC by one of the master keys, which are from the file at `path`."""
        if _MAC not in self._zip.namelist():
            why = "it has no MAC by the master key: an older version of Dustrun made it, or somebody changed it"
            raise self._unproven(f"{why}. Make a new backup")
        key_id, mac = self._read_mac()
        key = next((key for key in masters if key.id == key_id), None)
        if key is None:
            has = ", ".join(key.id for key in masters) or "no key"
            raise self._unproven(f'its MAC is by the master key "{key_id}", but "{path}" has {has}. Set {SETTING}')
        if not hmac.compare_digest(_mac(key, self._text), mac):
            raise self._damaged("its manifest was modified: the MAC by the master key does not match")

    def _read_mac(self) -> tuple[str, str]:
        try:
            with self._zip.open(_MAC) as member:
                found = orjson.loads(member.read(_MAX_MANIFEST))
            key_id, mac = found["key"], found["hmacSha256"]
            if isinstance(key_id, str) and isinstance(mac, str) and mac.isascii():
                return key_id, mac
        except (*_BROKEN, TypeError):
            pass
        raise self._damaged("its MAC is damaged")

    def _unproven(self, reason: str) -> Permanent:
        return Permanent(
            f'The file "{self._path}" cannot be verified: {reason}; or, if nobody else could change this file, use '
            "--unverified. Nothing was changed."
        )

    @property
    def unpacked_bytes(self) -> int:
        """Uncompressed size of all rows; never more than this is read."""
        return sum(info.file_size for info in self._zip.infolist())

    def check(self) -> None:
        """Reads the whole file and verifies row counts and checksums of all tables."""
        for entry in self.manifest.tables:
            for _ in self.rows(entry):
                pass

    def rows(self, entry: TableEntry) -> Iterator[list[Row]]:
        """Yields a table's rows in batches."""
        digest, count = hashlib.sha256(), 0
        piece: list[Row] = []
        try:
            with self._zip.open(f"tables/{entry.name}.jsonl") as lines:
                while line := lines.readline(_MAX_LINE):
                    digest.update(line)
                    count += 1
                    piece.append(self._row(entry, line))
                    if len(piece) == _PIECE:
                        yield piece
                        piece = []
        except _BROKEN as error:
            raise self._damaged(f'table "{entry.name}" is damaged ({error})') from error
        if count != entry.rows or digest.hexdigest() != entry.sha256:
            raise self._damaged(f'table "{entry.name}" was modified ({count} of {entry.rows} rows)')
        if piece:
            yield piece

    def _row(self, entry: TableEntry, line: bytes) -> Row:
        row = orjson.loads(line)
        if not isinstance(row, list) or len(row) != len(entry.columns) or not all(isinstance(c, _CELL) for c in row):
            raise self._damaged(f'a row of table "{entry.name}" has the wrong columns')
        return [_bytes_in(value) if isinstance(value, dict) else value for value in row]

    def close(self) -> None:
        """Closes the file."""
        self._zip.close()
