"""The benchmark of the assistant: its tasks are whole, and it judges right and wrong answers as what they are."""

from __future__ import annotations

import asyncio

import pytest

from bench.bench_assistant import prove, read_tasks, run
from testkit.model_server import Reply, model_beside

FEW = ("watch-eth-above", "pay-if-1")


def test_tasks_are_whole() -> None:
    tasks = read_tasks()
    assert len(tasks) >= 60
    assert len({task["id"] for task in tasks}) == len({task["words"] for task in tasks}) == len(tasks)
    assert all(task["cases"] and task["right"]["nodes"] for task in tasks)


def test_right_and_wrong_answers_are_judged_as_what_they_are() -> None:
    """`scripts/bench assistant` does it with all tasks."""
    found = asyncio.run(prove([task for task in read_tasks() if task["id"] in FEW]))
    assert (found["tasks"], found["answers judged"], found["failures"]) == (2, 6, [])
    assert "says nothing about a model" in found["model"]


@pytest.mark.long
def test_any_compatible_server_can_be_asked() -> None:
    """It gets each task in the person's words; one that saves nothing has nothing right."""
    with model_beside(lambda asked: Reply("I cannot.")) as models:
        found = run(2, 1, baseUrl=f"{models.url}/v1", model="small")
    assert (found["model"], found["tasks"], found["right"], found["failures"]) == ("small", 2, 0, [])
    assert [one["faults"] for one in found["wrong"]] == [["no workflow was saved"]] * 2
    said = [one["content"] for asked in models.asked for one in asked.messages if one["role"] == "user"]
    words = [task["words"].partition("{site}")[0] for task in read_tasks()[:2]]
    assert [one.startswith(word) for one, word in zip(said, words, strict=True)] == [True, True]
