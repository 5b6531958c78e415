"""Ports for the servers of tests and benchmarks."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
from functools import cache

# The system hands out those from 32768 on by itself: to every connection, and to every server that asks for any port.
_FIRST, _COUNT = 10_000, 22_000


def is_open(port: int) -> bool:
    """Whether somebody listens on a port of 127.0.0.1. To ask by HTTP takes fifty times as long, and those who wait for
    a server ask often."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now, and that nobody gets who starts beside us.

    Each process begins at another one and takes them in turn: there is time between the answer and the start of a
    server, and a server that is killed finds its port free again.
    """
    for turn in itertools.islice(_turns_of(os.getpid()), _COUNT):
        port = _FIRST + turn % _COUNT
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError("every port is taken")


@cache
def _turns_of(process: int) -> itertools.count[int]:
    return itertools.count(process * 1009)
