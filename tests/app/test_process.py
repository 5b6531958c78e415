"""A start where layers of the script sandbox are missing."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path

import pytest

from dustrun import log
from dustrun.app.process import check_sandbox
from dustrun.errors import Conflict
from dustrun.sandbox import Sandbox, SandboxLimits
from testkit import processes

_READY = """import json, sys
said = json.dumps({"layers": {"seccomp": "an old kernel", "limits": "active"}}).encode()
sys.stdout.buffer.write(len(said).to_bytes(4, "big") + said)
sys.stdout.flush()
sys.stdin.read()
"""
_TOO_MUCH_MB = str(10**13)  # no process can be limited to that


def _lacking() -> Sandbox:
    return Sandbox(SandboxLimits(), lambda: [sys.executable, "-c", _READY])


async def test_a_missing_layer_is_a_line_of_the_log() -> None:
    with contextlib.redirect_stderr(io.StringIO()) as stream:
        log.set_up(as_json=True, level="warning")
        try:
            await check_sandbox(_lacking(), must_have_all=False)
            await check_sandbox(Sandbox(SandboxLimits(), lambda: ["/no/such/program"]), must_have_all=False)
        finally:
            log.set_up(as_json=True, level="error")
    layers = [json.loads(line)["layers"] for line in stream.getvalue().splitlines()]
    assert layers[0] == ["seccomp (an old kernel)"]
    assert "cannot start a process" in layers[1][0]


async def test_a_missing_layer_forbids_the_start_if_all_are_required() -> None:
    with pytest.raises(Conflict, match=r"DUSTRUN_SANDBOX_REQUIRE_ALL .* seccomp \(an old kernel\)"):
        await check_sandbox(_lacking(), must_have_all=True)


def test_a_server_refuses_to_start_before_it_touches_its_data(tmp_path: Path) -> None:
    required = {"DUSTRUN_SANDBOX_REQUIRE_ALL": "true", "DUSTRUN_SANDBOX_MEMORY_MB": _TOO_MUCH_MB}
    words = ["serve", "--port", "0", "--data-dir", str(tmp_path / "data")]
    done = processes.run([*processes.DUSTRUN, *words], env=required, cwd=tmp_path)
    assert (done.returncode, "layers of the sandbox are missing" in done.stderr) == (6, True), done.stderr
    assert not (tmp_path / "data").exists()
