"""What one script may use, and how the process that runs it is bounded as a whole."""

from __future__ import annotations

from dataclasses import dataclass

from dustrun.settings import Settings

LOG_LINES = 100
LOG_CHARS = 16_384


@dataclass(frozen=True, slots=True)
class Limits:
    """The four settings of the sandbox; the rest follows from them."""

    time_ms: int = 1000
    memory_mb: int = 64
    output_bytes: int = 1_048_576
    processes: int = 2

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """The limits that the operator set."""
        return cls(
            time_ms=settings.sandbox_time_ms,
            memory_mb=settings.sandbox_memory_mb,
            output_bytes=settings.sandbox_output_bytes,
            processes=settings.sandbox_processes,
        )

    @property
    def memory_bytes(self) -> int:
        """Memory of the script itself: its objects, strings and code."""
        return self.memory_mb << 20

    @property
    def input_bytes(self) -> int:
        """Largest code and input together: their text, its copy and the parsed objects must fit beside each other."""
        return self.memory_bytes // 4

    @property
    def address_space_bytes(self) -> int:
        """Memory of the process beyond the bare interpreter: the script's, the job's and copies of the answer."""
        return self.memory_bytes + 3 * self.input_bytes + 8 * self.output_bytes

    @property
    def life_busy_s(self) -> float:
        """A process retires after this much time in calls."""
        return 30.0

    @property
    def life_cpu_s(self) -> int:
        """Processor time after which the kernel kills the process: out of reach for one that behaves."""
        return int(2 * self.life_busy_s + 2 * self.time_ms / 1000 + 10)

    def wall_s(self, time_ms: int) -> float:
        """The wall clock backstop of one call: longer than the processor time, for a script may share its core."""
        return 2 * time_ms / 1000 + 1.0
