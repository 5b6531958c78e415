"""The installed package that a type comes from."""

from __future__ import annotations

from dustrun.records import dataclass


@dataclass(frozen=True, slots=True)
class Package:
    """Its name and version, as pip knows them."""

    name: str
    version: str

    def public(self) -> dict[str, str]:
        """As the API shows it."""
        return {"name": self.name, "version": self.version}
