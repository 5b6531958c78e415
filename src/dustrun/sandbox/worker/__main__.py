"""The sandbox process: reads jobs from standard input, runs each in a new QuickJS context, and writes the answer.

Started as `python -I -S <this folder> <quickjs extension> <memory bytes> <cpu seconds>`. For the frames see
`sandbox/process.py`. A job is three frames (limits and set-up, code, input), an answer two (head, value). Before each
job the process sends one frame to signal that it is ready.
"""

from __future__ import annotations

import gc
import importlib.machinery
import importlib.util
import json
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dustrun.sandbox.worker import jail
else:
    import jail

MAX_STACK_BYTES = 1 << 20
REPORT_BYTES = 4 << 20
CPU_GRACE_S = 0.1
CLEANING_CPU_S = 5
EXIT_FAILED = 70
_HERE = os.path.dirname(os.path.abspath(__file__))


class _TimeUp(Exception):
    """The script exceeded its CPU time."""


def _read_exact(count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        chunk = os.read(0, min(count - len(data), 1 << 20))
        if not chunk:
            os._exit(0)
        data += chunk
    return bytes(data)


def _read_frame() -> bytes:
    return _read_exact(int.from_bytes(_read_exact(4), "big"))


def _write_frames(*frames: bytes) -> None:
    data = memoryview(b"".join(len(frame).to_bytes(4, "big") + frame for frame in frames))
    while data:
        data = data[os.write(1, data) :]


def _load_engine(path: str) -> Any:
    """Loads QuickJS from its extension file, so that installed packages are not on the import path."""
    loader = importlib.machinery.ExtensionFileLoader("_quickjs", path)
    spec = importlib.util.spec_from_loader("_quickjs", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


class _Call:
    """One job in its own QuickJS context."""

    def __init__(self, engine: Any, driver: str) -> None:
        self.context = engine.Context()
        self.context.set_max_stack_size(MAX_STACK_BYTES)
        self.start = self.context.eval(driver)
        self.deadline = 0.0

    def run(self, setup: bytes, code: bytes, source: bytes) -> tuple[bytes, bytes]:
        """The answer's head and value."""
        limits = json.loads(setup)["limits"]
        self.deadline = time.process_time() + limits["cpuMs"] / 1000
        self.context.set_memory_limit(limits["memoryBytes"])
        try:
            head, value = self._answer(setup.decode(), code.decode(), source.decode(), limits["memoryBytes"])
        except _TimeUp:
            return b'{"limit":"time"}', b""
        except MemoryError:
            return b'{"limit":"memory"}', b""
        if len(value) > limits["outputBytes"]:
            return b'{"limit":"output"}', b""
        return head, value

    def _answer(self, setup: str, code: str, source: str, memory_bytes: int) -> tuple[bytes, bytes]:
        outcome = self._limited(self.start, code, source, setup)
        while self._limited(self.context.execute_pending_job):
            pass
        # Reporting a script that filled its memory needs some more.
        self.context.set_memory_limit(memory_bytes + REPORT_BYTES)
        head = self._limited(outcome, "head")
        if head is None:
            return b'{"pending":true}', b""
        value = self._limited(outcome, "value")
        return head.encode(), b"" if value is None else value.encode()

    def _limited(self, function: Any, *args: str) -> Any:
        """Calls into QuickJS with the remaining time; converts errors that the driver cannot catch."""
        remaining = self.deadline - time.process_time()
        if remaining <= 0:
            raise _TimeUp
        self.context.set_time_limit(remaining)
        try:
            return function(*args)
        except Exception as error:
            if time.process_time() >= self.deadline or "interrupted" in str(error):
                raise _TimeUp from None
            raise MemoryError from None


def _serve(engine: Any, driver: str, layers: jail.Layers) -> None:
    call = _Call(engine, driver)
    _write_frames(json.dumps({"layers": layers}).encode())
    while True:
        setup, code, source = _read_frame(), _read_frame(), _read_frame()
        # Regular expressions and BigInt operations do not check QuickJS's time limit; the kernel's timer kills them.
        signal.setitimer(signal.ITIMER_PROF, json.loads(setup)["limits"]["cpuMs"] / 1000 + CPU_GRACE_S)
        answer = call.run(setup, code, source)
        _write_frames(*answer)
        signal.setitimer(signal.ITIMER_PROF, CLEANING_CPU_S)
        # Destroying the context may crash after a hostile script; the next job is sent only after the ready frame.
        del call
        call = _Call(engine, driver)
        signal.setitimer(signal.ITIMER_PROF, 0)
        _write_frames(b"{}")


def main() -> None:
    """Loads the engine, locks down the process, and serves jobs until its input ends."""
    try:
        # Otherwise the first use of local time would open the time zone file; it also makes results uniform.
        os.environ["TZ"] = "UTC0"
        time.tzset()
        time.localtime()
        engine = _load_engine(sys.argv[1])
        with open(os.path.join(_HERE, "driver.js"), encoding="utf-8") as file:
            driver = file.read()
        _Call(engine, driver)
        gc.disable()
        layers = jail.close(int(sys.argv[2]), int(sys.argv[3]))
    except Exception as error:
        _write_frames(json.dumps({"fatal": f"{type(error).__name__}: {error}"}).encode())
        return
    try:
        _serve(engine, driver, layers)
    except BaseException:
        # The seccomp filter kills the process if it writes a traceback; the exit status is enough.
        os._exit(EXIT_FAILED)


if __name__ == "__main__":
    main()
