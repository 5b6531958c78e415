"""The audit log by syslog: real collectors on loopback, each transport, and what they kept is verified."""

from __future__ import annotations

import base64
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dustrun.cli.commands.access.syslog import Collector, collector_of, lines_of, send_new
from dustrun.cli.http.failures import CliError
from dustrun.core.audit_export import FORMAT, line_of, link_hash, verify
from testkit.certificates import self_signed

_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))


def _export(file: Path) -> list[bytes]:
    public = base64.b64encode(_KEY.public_key().public_bytes_raw()).decode()
    at, content = "2026-01-01T00:00:00.000Z", ("org_1", "key_1", 1000, "key.create", "é {\n", "{}")
    names = ("organizationId", "apiKeyId", "atMs", "action", "subject", "detail")
    hash = link_hash("", content)
    fields = dict(zip(names, content, strict=True))
    made = [
        {"kind": "start", "format": FORMAT, "organizationId": "org_1", "after": 0, "previous": "", "publicKey": public},
        {"kind": "entry", "id": 1, "previous": "", "hash": hash, "at": at, **fields},
        {"kind": "end", "entries": 1, "lastId": 1, "hash": hash, "next": None, "at": at},
    ]
    lines = [line_of(one, _KEY.sign).encode() for one in made]
    file.write_bytes(b"".join(lines))
    return lines


@contextmanager
def _collecting(context: ssl.SSLContext | None, kept: list[bytes]) -> Iterator[int]:
    """A collector of one connection, which reads messages by their counts."""

    def take(server: socket.socket) -> None:
        connection, _ = server.accept()
        taken = context.wrap_socket(connection, server_side=True) if context else connection
        with taken, taken.makefile("rb") as stream:
            while count := b"".join(iter(lambda: stream.read(1).strip(), b"")):
                kept.append(stream.read(int(count)))

    with socket.create_server(("127.0.0.1", 0)) as server:
        taking = threading.Thread(target=take, args=(server,))
        taking.start()
        yield server.getsockname()[1]
        taking.join(60)


@pytest.mark.parametrize("transport", ["tcp", "tls"])
def test_what_a_collector_kept_is_verified(tmp_path: Path, transport: str) -> None:
    file, kept = tmp_path / "audit.jsonl", list[bytes]()
    lines = _export(file)
    context, ca = self_signed(tmp_path, "localhost") if transport == "tls" else (None, None)
    with _collecting(context, kept) as port:
        assert send_new(file, Collector(transport, "localhost", port, ca)) == 3
    assert [one.partition(b" - ")[0].split(b" ")[0] for one in kept] == [b"<110>1"] * 3
    assert kept[1].split(b" ")[1] == b"2026-01-01T00:00:00.000Z"
    assert list(lines_of([*kept, *kept])) == lines
    assert verify(lines_of(b"Jan  1 host dustrun: " + one + b"\n" for one in kept)).problems == []
    assert verify(lines_of([kept[0], kept[2]])).problems != []
    assert send_new(file, Collector(transport, "localhost", port, ca)) == 0  # all of it was sent
    (tmp_path / "audit.jsonl.sent").write_text("99999999")
    with pytest.raises(CliError, match="does not say how much"):
        send_new(file, Collector(transport, "localhost", port, ca))


def test_datagrams_carry_one_line_each(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    lines = _export(file)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(60)
        send_new(file, Collector("udp", "127.0.0.1", receiver.getsockname()[1]))
        assert list(lines_of(receiver.recv(65_536) for _ in lines)) == lines


def test_a_collector_that_is_away_loses_nothing(tmp_path: Path) -> None:
    file, kept = tmp_path / "audit.jsonl", list[bytes]()
    lines = _export(file)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(CliError, match="is complete; 0 lines"):
        send_new(file, Collector("tcp", "127.0.0.1", port))
    with _collecting(None, kept) as port:
        send_new(file, Collector("tcp", "127.0.0.1", port))
    assert list(lines_of(kept)) == lines


@pytest.mark.parametrize("address", ["logs:514", "http://logs", "tcp://", "tls://u@logs", "udp://logs:99999"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(CliError, match="no address of a collector"):
        collector_of(address, None)


def test_ports_have_defaults() -> None:
    assert [collector_of(f"{one}://logs", None).port for one in ("udp", "tcp", "tls")] == [514, 601, 6514]
