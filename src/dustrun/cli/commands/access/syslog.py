"""The audit log's lines as messages of syslog (RFC 5424), by UDP, TCP or TLS, and back from what a collector kept.

Syslog confirms nothing, so the file of the export stays what counts: `<file>.sent` notes up to which byte it was sent,
and what was sent in a try that failed is sent again.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import orjson

from dustrun.cli.http.failures import CliError, Exit
from dustrun.records import dataclass

if TYPE_CHECKING:
    import ssl

_PRIORITY: Final = 13 * 8 + 6  # facility "log audit", severity "informational"
_PORTS: Final = {"udp": 514, "tcp": 601, "tls": 6514}
_MOST_OF_A_DATAGRAM: Final = 65_000
_TIMEOUT_S: Final = 10.0
_TOGETHER: Final = 500


@dataclass(frozen=True, slots=True)
class Collector:
    """Where messages go. `ca`: the certificates that TLS trusts; None: those of the machine."""

    transport: str
    host: str
    port: int
    ca: Path | None = None


def collector_of(address: str, ca: Path | None) -> Collector:
    """Reads `tls://logs.example.com:6514`; raises `CliError`."""
    try:
        url = urlsplit(address)
        port = url.port or _PORTS.get(url.scheme, 0)
    except ValueError:
        url, port = urlsplit(""), 0
    if not url.hostname or not port or url.path.strip("/") or url.query or url.username:
        raise CliError(
            f'--syslog: "{address}" is no address of a collector.',
            hint="Give udp://, tcp:// or tls://, a host, and a port unless it is 514, 601 or 6514.",
        )
    if ca is not None and url.scheme != "tls":
        raise CliError("--syslog-ca is for tls:// only.")
    return Collector(url.scheme, url.hostname, port, ca)


def message_of(line: bytes, host: str) -> bytes:
    """One line as a message; its time is that of the entry."""
    fields = orjson.loads(line)
    head = f"<{_PRIORITY}>1 {fields.get('at', '-')} {host} dustrun - {fields['kind']} - "
    return head.encode() + line.rstrip(b"\n")


def lines_of(kept: Iterable[bytes]) -> Iterator[bytes]:
    """The lines of an export in what a collector kept of messages: what it wrote before a line is left out, and so is
    a line that came again."""
    seen: set[bytes] = set()
    for one in kept:
        at = one.find(b'{"')
        line = one[at:].rstrip(b"\r\n") + b"\n" if at >= 0 else one
        if line.strip() and line not in seen:
            seen.add(line)
            yield line


def send_new(file: Path, collector: Collector) -> int:
    """Sends the lines of the file that were not sent yet; how many."""
    note, host, count = file.with_name(f"{file.name}.sent"), _own_name(), 0
    with file.open("rb") as lines:
        lines.seek(_sent(note, file))
        try:
            while found := [line for _, line in zip(range(_TOGETHER), lines, strict=False)]:
                _send(collector, [message_of(line, host) for line in found])
                count += len(found)
                _note(note, lines.tell())
        except OSError as error:
            why = error.strerror or str(error) or type(error).__name__
            raise CliError(
                f"Cannot send to {collector.transport}://{collector.host}:{collector.port}: {why}. "
                f'"{file}" is complete; {count} lines of it were sent now.',
                exit=Exit.FAILURE,
                hint="Repeat it with --continue once the collector answers: it goes on there.",
            ) from error
    return count


def _own_name() -> str:
    name = socket.gethostname()
    return name if name.isascii() and name.isprintable() and 0 < len(name) <= 255 and " " not in name else "-"


def _sent(note: Path, file: Path) -> int:
    try:
        sent = int(note.read_text())
    except FileNotFoundError:
        return 0
    except ValueError:
        sent = -1
    if not 0 <= sent <= file.stat().st_size:
        raise CliError(
            f'"{note}" does not say how much of "{file}" was sent.', hint="Remove it, and everything is sent again."
        )
    return sent


def _note(note: Path, sent: int) -> None:
    fresh = note.with_name(f"{note.name}.new")
    fresh.write_text(f"{sent}\n")
    os.replace(fresh, note)


def _send(collector: Collector, messages: list[bytes]) -> None:
    address = (collector.host, collector.port)
    if collector.transport == "udp":
        _send_datagrams(address, messages)
        return
    framed = b"".join(b"%d %b" % (len(one), one) for one in messages)  # RFC 6587 and 5425
    with socket.create_connection(address, timeout=_TIMEOUT_S) as connection:
        if collector.transport == "tls":
            import ssl  # slow import

            context = ssl.create_default_context(cafile=collector.ca)
            with context.wrap_socket(connection, server_hostname=collector.host) as secured:
                secured.sendall(framed)
                _end_tls(secured)
        else:
            connection.sendall(framed)
            _end(connection)


def _end(connection: socket.socket) -> None:
    """Ends the connection so that a refusal of the collector is noticed; one that just says nothing is fine."""
    with contextlib.suppress(TimeoutError):
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(4096):
            pass


def _end_tls(connection: ssl.SSLSocket) -> None:
    """The same; a collector that closes without a goodbye has had ours before."""
    import ssl  # slow import

    with contextlib.suppress(TimeoutError, ssl.SSLEOFError):
        connection.unwrap()


def _send_datagrams(address: tuple[str, int], messages: list[bytes]) -> None:
    longest = max(len(one) for one in messages)
    if longest > _MOST_OF_A_DATAGRAM:
        raise OSError(f"a message has {longest} bytes, too many for UDP; take tcp:// or tls://")
    family, kind, _, _, place = socket.getaddrinfo(*address, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as sender:
        sender.connect(place)
        for one in messages:
            sender.send(one)
