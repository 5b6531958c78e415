"""pycryptodome, which calls its functions in C by ctypes here.

It would call them by cffi, which is installed for others. That parses declarations in C when it is loaded: 40 ms and
1.5 MiB for calls that are no faster.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def _hidden(module: str) -> Iterator[None]:
    """Lets a module look as if it were not installed, unless it is loaded already."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]


with _hidden("cffi"):
    from Crypto.Cipher import AES
    from Crypto.Hash import keccak

__all__ = ["AES", "keccak"]
