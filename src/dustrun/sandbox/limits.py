"""Limits of one script, and of the process that runs it."""

from __future__ import annotations

from dustrun.records import dataclass
from dustrun.settings import Settings

LOG_LINES = 100
LOG_CHARS = 16_384


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """The four settings of the sandbox, and the limits derived from them."""

    time_ms: int = 1000
    memory_mb: int = 64
    output_bytes: int = 1_048_576
    processes: int = 2

    @classmethod
    def of(cls, settings: Settings) -> SandboxLimits:
        """The limits of the settings."""
        return cls(
            time_ms=settings.sandbox_time_ms,
            memory_mb=settings.sandbox_memory_mb,
            output_bytes=settings.sandbox_output_bytes,
            processes=settings.sandbox_processes,
        )

    @property
    def memory_bytes(self) -> int:
        """Memory of the script's objects, strings and code."""
        return self.memory_mb << 20

    @property
    def input_bytes(self) -> int:
        """Maximum size of code and input together: their text, its copy and the parsed objects must all fit."""
        return self.memory_bytes // 4

    @property
    def address_space_bytes(self) -> int:
        """Memory of the process beyond the interpreter: the script, the job and copies of the answer."""
        return self.memory_bytes + 3 * self.input_bytes + 8 * self.output_bytes

    @property
    def life_busy_s(self) -> float:
        """Total time in calls, in seconds, after which a process is replaced."""
        return 30.0

    @property
    def life_cpu_s(self) -> int:
        """CPU seconds after which the kernel kills the process; a normal process is replaced long before."""
        return int(2 * self.life_busy_s + 2 * self.time_ms / 1000 + 10)

    def wall_s(self, time_ms: int) -> float:
        """Wall-clock limit of one call in seconds: longer than its CPU time, since a script may share its core."""
        return 2 * time_ms / 1000 + 1.0
