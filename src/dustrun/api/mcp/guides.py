"""The guides as resources of MCP, and prompts that begin the usual work."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import dustrun
from dustrun.records import dataclass

SCHEME: Final = "dustrun://guides/"
MOST_ARGUMENT: Final = 4_000
_PACKAGED: Final = Path(dustrun.__file__).with_name("guides")
_IN_SOURCES: Final = Path(dustrun.__file__).parents[2] / "docs" / "guides"


@dataclass(frozen=True, slots=True)
class Guide:
    """One guide; `about` is its first sentence."""

    name: str
    title: str
    about: str
    size: int

    @property
    def uri(self) -> str:
        """How clients name it."""
        return f"{SCHEME}{self.name}"


@functools.cache
def list_guides() -> tuple[Guide, ...]:
    """All guides, by name."""
    return tuple(_guide(path) for path in sorted(_folder().glob("*.md")))


def find_text(uri: str) -> str | None:
    """The text of a guide; None if there is no such guide."""
    known = {guide.uri: guide.name for guide in list_guides()}
    return (_folder() / f"{known[uri]}.md").read_text(encoding="utf-8") if uri in known else None


def _folder() -> Path:
    return _PACKAGED if _PACKAGED.is_dir() else _IN_SOURCES


def _guide(path: Path) -> Guide:
    text = path.read_text(encoding="utf-8")
    title = text.partition("\n")[0].lstrip("# ").strip()
    paragraph = re.sub(r"\s+", " ", text.partition("\n\n")[2].partition("\n\n")[0])
    about = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", re.split(r"(?<=[.:]) ", paragraph)[0])
    return Guide(path.stem, title, about, len(text.encode()))


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt. `takes`: its argument and what that is; `needs`: permissions of which a key must have one."""

    name: str
    title: str
    about: str
    takes: str
    takes_about: str
    needs: str
    say: Callable[[str], str]


PROMPTS: Final[Mapping[str, Prompt]] = {
    one.name: one
    for one in (
        Prompt(
            "draft-workflow",
            "Draft a workflow",
            "From a wish to a draft that is valid and simulated.",
            "goal",
            "What the workflow is to do",
            "workflow:create",
            lambda goal: (
                f"Make a Dustrun workflow that does this: {goal}\n\nFind node types with search_nodes, read them with "
                "describe_nodes, and look at list_workflows for one that does almost the same. Write the definition, "
                "call validate_workflow until it has no errors, and save_workflow it as a draft. Simulate the draft "
                "with a typical payload, and show me as a table what get_report says that it would send and spend. "
                "Ask me before you assume an address, an amount or a token."
            ),
        ),
        Prompt(
            "explain-run",
            "Explain a run",
            "What a run did or why it failed, from its journal.",
            "runId",
            "Id of the run",
            "run:read",
            lambda run_id: (
                f"Explain the run {run_id}. Read get_report with summary, then nodes, then the failed nodes one by "
                "one, and effects if it sent or spent anything. Say what happened in order, name the node for each "
                "claim, and say so where the report does not tell. Then propose the smallest change that mends it."
            ),
        ),
        Prompt(
            "propose-launch",
            "Propose a launch",
            "Simulate a workflow as it would run, and propose to run it for real.",
            "workflowId",
            "Id of the workflow",
            "workflow:simulate",
            lambda workflow_id: (
                f"Propose to run the workflow {workflow_id} for real. Ask me for its payload if it takes one. Simulate "
                "exactly that version and payload, and show me every transfer, fee and request of get_report effects. "
                "Only if I agree, call launch with the run of that simulation, and give me the page on which I decide."
            ),
        ),
    )
}
