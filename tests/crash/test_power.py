"""The small version of `scripts/soak power`, and that its judge can tell a broken promise from a kept one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bench import soak_power
from testkit import syscalls

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
TAG = "p000001x000001"
WRITE = (
    f'7 pwrite64(9</d/dustrun.db-wal>, "\\1run_{TAG} /ok/{TAG}/plain /ok/{TAG}/keyed said-{TAG}", 4096, 56) = 4096\n'
)
SYNC = "7 fdatasync(9</d/dustrun.db-wal>) = 0\n"
SAID = (
    '7 write(5<socket:[1]>, "HTTP/1.1 200 OK\\r\\n\\r\\n", 19) = 19\n'
    f'7 write(5<socket:[1]>, "{{\\"message\\":\\"success\\",\\"data\\":{{\\"runId\\":\\"run_{TAG}\\"}}", 50) = 50\n'
    f'7 write(6<socket:[2]>, "POST /ok/{TAG}/plain HTTP/1.1\\r\\n", 30) = 30\n'
    f'7 write(7<socket:[3]>, "POST /ok/{TAG}/keyed HTTP/1.1\\r\\n", 30) = 30\n'
    f'7 write(8<socket:[4]>, "event: log\\ndata: said-{TAG}", 30) = 30\n'
)
ANSWER_HEAD, REST = SAID.split("\n", 1)


def failures(folder: Path, trace: str) -> list[str]:
    (folder / "trace").write_text(trace)
    found: list[str] = soak_power.judge(syscalls.read(folder / "trace"), [TAG])["failures"]
    return [failure.split()[0] for failure in found]


def test_judge_passes_written_synced_said(tmp_path: Path) -> None:
    assert failures(tmp_path, WRITE + SYNC + SAID) == []


@pytest.mark.parametrize(
    "trace",
    [
        WRITE + SAID + SYNC,
        SYNC + WRITE + SAID,
        WRITE + SAID,
        WRITE + SYNC.replace("= 0", "= -1 EIO (Input/output error)") + SAID,
        WRITE + SYNC.replace("-wal", "") + SAID,
        WRITE + SYNC.replace(") = 0", " <unfinished ...>") + SAID + "7 <... fdatasync resumed>) = 0\n",
        SYNC + WRITE.replace(") = 4096", " <unfinished ...>").replace("7 pw", "8 pw") + SYNC + SAID,
    ],
    ids=["sync late", "sync early", "no sync", "sync failed", "another file", "sync unfinished", "write unfinished"],
)
def test_judge_finds_what_was_said_too_early(tmp_path: Path, trace: str) -> None:
    assert failures(tmp_path, trace) == ["answers", "plainWrites", "keyedWrites", "streamEvents"]


def test_judge_counts_the_head_of_an_answer_as_the_answer(tmp_path: Path) -> None:
    assert failures(tmp_path, WRITE + ANSWER_HEAD + "\n" + SYNC + REST) == ["answers"]


RAW = "0x" + "02f8" * 40
SIGNED = f'7 pwrite64(9</d/dustrun.db-wal>, "\\1{RAW}", 4096, 56) = 4096\n'
SENT = (
    f'7 write(5<socket:[9]>, "{{\\"method\\":\\"eth_sendRawTransaction\\",\\"params\\":[\\"{RAW}\\"]}}", 250) = 250\n'
)


@pytest.mark.parametrize(
    ("trace", "proved"), [(SIGNED + SYNC + SENT, 1), (SIGNED + SENT + SYNC, 0), (SYNC + SIGNED + SENT, 0), (SENT, 0)]
)
def test_judge_wants_signed_bytes_synced_before_they_are_sent(tmp_path: Path, trace: str, proved: int) -> None:
    (tmp_path / "trace").write_text(trace)
    found = soak_power.judge(syscalls.read(tmp_path / "trace"), [])
    assert (found["syncedBefore"]["broadcasts"], len(found["failures"])) == (proved, 1 - proved)


@needs_strace
def test_answers_effects_and_events_come_after_the_sync() -> None:
    found = soak_power.run(12, seed=1)
    assert found["failures"] == []
    assert set(found["syncedBefore"].values()) == {12}


@needs_strace
@pytest.mark.long
def test_synchronous_normal_is_caught() -> None:
    assert soak_power.run(4, seed=1, synchronous="NORMAL")["failures"] != []


@needs_strace
@pytest.mark.long
def test_postgresql_syncs_before_answers_effects_and_events_too() -> None:
    found = soak_power.run(6, seed=1, store="postgresql")
    assert found["failures"] == []
    assert set(found["syncedBefore"].values()) == {6}


@needs_strace
@pytest.mark.long
def test_postgresql_without_syncs_is_caught() -> None:
    assert soak_power.run(2, seed=1, synchronous="NORMAL", store="postgresql")["failures"] != []


def test_a_text_in_the_log_of_postgresql_may_go_on_in_the_next_page_and_write() -> None:
    head, first = "\\001" * 24, "x" * (8192 - 24 - 5)
    pages = syscalls.Pages()
    assert "run_p000007" in pages.text_of(f'9</pg_wal/0001>, "{head}{first}run_p{head}000007 and run_", 8300, 0')
    assert "run_p000008" in pages.text_of(f'9</pg_wal/0001>, "{head}p000008", 32, 8192')
