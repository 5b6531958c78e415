"""The file that lists releases: what `scripts/release` writes, and what it says of the version that runs.

{"format": 1, "releases": [{"version": "0.2.0", "released": "2027-01-15", "schema": "0051", "oldest": "0017",
                            "security": false, "notes": ["…"], "files": {"dustrun-0.2.0-….whl": "SHA-256"}}]}
"""

from __future__ import annotations

import datetime
import hashlib
import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field, ValidationError

from dustrun.cli.commands.store.signature import read_keys
from dustrun.cli.commands.store.signature import signer as signed_by
from dustrun.core.text.wording import explain
from dustrun.core.values.exact_json import loads
from dustrun.core.values.fields import Fields
from dustrun.errors import Invalid
from dustrun.records import dataclass

SUMS: Final = "SHA256SUMS"
SIGNATURE: Final = f"{SUMS}.sig"
_MOST_BYTES: Final = 4_000_000
_VERSION: Final = re.compile(r"(\d+)\.(\d+)\.(\d+)(?:(a|b|rc)(\d+))?")
_Schema = Annotated[str, Field(pattern=r"^\d{4}$")]
_Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Release(Fields):
    """One release. What a later version adds to it is ignored."""

    model_config = ConfigDict(extra="ignore")
    version: Annotated[str, Field(pattern=rf"^{_VERSION.pattern}$")]
    released: datetime.date
    schema_: _Schema = Field(alias="schema", description="The newest migration that it brings.")
    oldest: _Schema = Field(description="What a version must know to run on a store that this one has migrated.")
    security: bool = False
    notes: list[str] = Field(default_factory=list, description="What to know before the update.")
    files: dict[str, _Digest] = Field(default_factory=dict, description="SHA-256 of each file of the release.")

    @property
    def order(self) -> tuple[int, ...]:
        """By which releases are sorted: `0.2.0rc1` is before `0.2.0`."""
        return order_of(self.version)


class Releases(Fields):
    """The file."""

    model_config = ConfigDict(extra="ignore")
    format: Literal[1]
    releases: list[Release]


def order_of(version: str) -> tuple[int, ...]:
    """By which versions are sorted."""
    found = _VERSION.fullmatch(version)
    if found is None:
        raise Invalid(f'"{version}" is not a version like 1.2.3 or 1.2.3rc1.')
    major, minor, patch, stage, number = found.groups()
    return int(major), int(minor), int(patch), ("a", "b", "rc", None).index(stage), int(number or 0)


def read(file: Path) -> Releases:
    """The list in a file, in the order of versions; `Invalid` says which field is wrong, `OSError` why it is not read.

    If `SHA256SUMS` is beside it, the file and those releases that are beside it too must be as that says."""
    with file.open("rb") as opened:
        content = opened.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise Invalid(f"{file} is larger than {_MOST_BYTES} bytes, so it is no list of releases.")
    _check_sum(file, content)
    try:
        found = Releases.model_validate(loads(content))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the document"
        raise Invalid(f"{file} is no list of releases: {where}: {explain(first['type'], first['msg'])}") from None
    except ValueError as error:
        raise Invalid(f"{file} is not JSON: {error}.") from None
    return found.model_copy(update={"releases": sorted(found.releases, key=lambda one: one.order)})


def _check_sum(file: Path, content: bytes) -> None:
    sums = file.with_name(SUMS)
    if not sums.is_file():
        return
    lines = [line.split(maxsplit=1) for line in sums.read_text().splitlines()]
    wanted = {words[1].strip().lstrip("*"): words[0] for words in lines if len(words) == 2}.get(file.name)
    if wanted is None:
        raise Invalid(f"{sums} does not list {file.name}: both should come from the same release.")
    if wanted != hashlib.sha256(content).hexdigest():
        raise Invalid(f"{file} is not as {sums} says: it was damaged or changed. Copy both again.")


def signer_of(file: Path, keys: str) -> str:
    """The fingerprint of the key, of those in a text, that has signed the `SHA256SUMS` beside a file; `Invalid` says
    why there is none. That the file is as the sums say is checked by `read`."""
    sums, signature = file.with_name(SUMS), file.with_name(SIGNATURE)
    for needed in (sums, signature):
        if not needed.is_file():
            raise Invalid(f"{needed} is missing, so nothing proves who made {file.name}: copy the whole release.")
    return signed_by(sums.read_bytes(), signature.read_text(errors="replace"), read_keys(keys))


@dataclass(frozen=True, slots=True)
class Comparison:
    """The message of a list of releases about the version that runs, and its store."""

    version: str
    schema: str
    newer: tuple[Release, ...]
    """In the order of versions; releases for trial only if this version is one itself."""
    newest: Release | None
    store: str | None
    """The schema of the store; None if there is none, or no server has started on it."""

    @property
    def migrates(self) -> bool:
        """Whether the newest release's first start changes the store's schema."""
        return self.newest is not None and self.store is not None and self.store < self.newest.schema_

    @property
    def leads_back(self) -> bool:
        """Whether this version can run on a store that the newest release has migrated."""
        return self.newest is not None and self.newest.oldest <= self.schema

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        newest = self.newest
        return {
            "version": self.version,
            "schema": self.schema,
            "storeSchema": self.store,
            "newest": newest.model_dump(mode="json", by_alias=True) if newest else None,
            "isCurrent": newest is None,
            "isSecurity": any(one.security for one in self.newer),
            "migrates": self.migrates,
            "canGoBack": self.leads_back if newest else None,
            "read": [{"version": one.version, "notes": one.notes} for one in self.newer],
        }


def compare(releases: Releases, version: str, schema: str, store: str | None) -> Comparison:
    """Compares."""
    here = order_of(version)
    is_trial = here[3] < 3
    newer = tuple(one for one in releases.releases if one.order > here and (is_trial or one.order[3] == 3))
    return Comparison(version, schema, newer, newer[-1] if newer else None, store)


def damaged(release: Release, folder: Path) -> tuple[list[str], list[str]]:
    """Which files of a release are in a folder as they should be, and which are not."""
    whole, broken = list[str](), list[str]()
    for name, digest in release.files.items():
        file = folder / Path(name).name
        if file.is_file():
            with file.open("rb") as opened:
                is_whole = hashlib.file_digest(opened, "sha256").hexdigest() == digest
            (whole if is_whole else broken).append(name)
    return whole, broken
