"""A process that sends one message through `apprise`; started by `outbound/notifier.py`.

apprise opens its own connections, bypassing the outbound client, and some of its services run programs or write files
on this machine. It therefore runs in a separate process behind an audit hook that cannot be removed: only TCP
connections to addresses that the guard allows, no child processes, no files except Python's own for reading. Only
services over HTTP or SMTP are accepted; redirects and proxies of the environment are ignored.

It reads one JSON object from standard input and writes one to standard output; the address is a secret and is never
written.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import logging
import os
import resource
import socket
import sys
from typing import Any, Final

from dustrun.errors import DustrunError
from dustrun.outbound.guard import Guard

_PROGRAMS: Final = (
    "subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.startfile", "pty.", "ctypes.",
)  # fmt: skip
_FILES: Final = frozenset(
    {"os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.truncate", "os.chmod", "os.chown", "os.link", "os.symlink"}
)
_OTHER_SOCKETS: Final = frozenset({"socket.bind", "socket.sendto", "socket.sendmsg"})
_MOST_READ: Final = 1_048_576
_AT_ONCE: Final = 16_384
_MOST_MEMORY: Final = 1 << 30
_WRITES: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Watch:
    """The audit hook, and what it observed."""

    def __init__(self, guard: Guard, *, is_check: bool = False) -> None:
        self._is_check = is_check
        self.refused: str | None = None
        self.sent = False
        self.status: int | None = None
        self.is_mail = False
        self._guard = guard
        self._names: dict[str, str] = {}
        self._readable = tuple({os.path.realpath(path) + os.sep for path in (sys.prefix, sys.base_prefix, *_library())})

    def arm(self) -> None:
        """Installs the hook permanently."""
        _patch(self)
        sys.addaudithook(self._hear)

    def knows(self, host: str, addresses: list[str]) -> None:
        """Records the resolved addresses of a host, to which connections are then allowed if the guard permits them."""
        self._names.update(dict.fromkeys(addresses, host))

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "http.client.send" or (event == "smtplib.send" and bytes(arguments[1][:4]).lower() == b"data"):
            self.sent = True
        elif event == "socket.connect":
            self._check_connect(arguments[1])
        elif event == "open":
            self._check_open(*arguments)
        elif event in _OTHER_SOCKETS:
            self._refuse("The service needs connections other than TCP")
        elif event in _FILES:
            self._refuse("The service changes files of this machine")
        elif event.startswith(_PROGRAMS):
            self._refuse("The service runs a program of this machine")

    def _check_connect(self, target: Any) -> None:
        if not isinstance(target, tuple):
            self._refuse("The service is a socket of this machine")
        try:
            address = ipaddress.ip_address(target[0])
        except ValueError:
            self._refuse("The service's address was not resolved first")
        try:
            self._guard.check(self._names.get(target[0], target[0]), address, target[1])
        except DustrunError as error:
            self._refuse(error.message)
        if self._is_check:
            raise PermissionError("Only a check: nothing is sent")

    def _check_open(self, path: Any, _mode: Any, flags: Any) -> None:
        if isinstance(path, int):
            return
        if isinstance(flags, int) and flags & _WRITES:
            self._refuse("The service writes a file of this machine")
        if not os.path.realpath(os.fsdecode(path)).startswith(self._readable):
            self._refuse("The address names a file of this machine")

    def _refuse(self, why: str) -> None:
        self.refused = self.refused or f"{why.rstrip('.')}."
        raise PermissionError(why)


def _library() -> list[str]:
    import certifi

    return [os.path.dirname(os.__file__), os.path.dirname(certifi.__file__)]


def _patch(watch: Watch) -> None:
    """Patches the HTTP, SMTP and DNS functions of this process."""
    import smtplib

    import requests

    ask, answer, resolve = requests.Session.request, smtplib.SMTP.getreply, socket.getaddrinfo

    def request(self: Any, *args: Any, **options: Any) -> Any:
        self.trust_env = False
        response = ask(self, *args, **{**options, "allow_redirects": False, "stream": True})
        watch.status = response.status_code
        _read_beginning(response)
        return response

    def reply(self: Any) -> Any:
        code, text = answer(self)
        watch.status = code if code >= 400 else watch.status
        watch.is_mail = True
        return code, text

    def getaddrinfo(host: Any, *args: Any, **options: Any) -> Any:
        found = resolve(host, *args, **options)
        name = host.decode() if isinstance(host, bytes) else str(host)
        watch.knows(name.lower(), [str(entry[4][0]) for entry in found])
        return found

    requests.Session.request = request  # type: ignore[method-assign]
    smtplib.SMTP.getreply = reply  # type: ignore[method-assign]
    socket.getaddrinfo = getaddrinfo


def _read_beginning(response: Any) -> None:
    """Reads what a service's module may look at: an answer may have no end, or be small only until it is decoded."""
    body = bytearray()
    while len(body) < _MOST_READ and (more := response.raw.read(_AT_ONCE, decode_content=True)):
        body += more
    response._content, response._content_consumed = bytes(body[:_MOST_READ]), True
    response.close()


def _speaks_http_or_smtp(service: type) -> bool:
    modules = [sys.modules.get(kind.__module__) for kind in service.__mro__]
    return any(hasattr(module, "requests") or hasattr(module, "smtplib") for module in modules)


def _send(order: dict[str, Any]) -> dict[str, Any]:
    import apprise
    from apprise.manager_plugins import NotificationManager

    known: Any = NotificationManager()  # type: ignore[no-untyped-call]
    schemes = set(known.schemas())  # loads every service before files become unreadable
    scheme = str(order["address"]).partition(":")[0].lower()
    if scheme not in schemes:
        return {"refused": f'There is no service "{scheme[:40]}"; see the list of apprise.'}
    if not _speaks_http_or_smtp(known[scheme]):
        return {"refused": f'The service "{scheme}" does not speak HTTP or SMTP; it cannot be used here.'}
    asset = apprise.AppriseAsset(secure_logging=True, async_mode=False)
    watch = Watch(Guard.of(order["allow"]), is_check=order["isCheck"])
    watch.arm()
    service = apprise.Apprise.instantiate(order["address"], asset=asset, suppress_exceptions=True)
    if service is None:
        return {"refused": watch.refused or f'The address is not valid for the service "{scheme}".'}
    done = False
    try:
        done = service.notify(
            body=order["body"],
            title=order["title"],
            notify_type=apprise.NotifyType(order["kind"]),
            body_format=apprise.NotifyFormat(order["format"]),
        )
    except Exception as error:
        return {**_seen(watch), "failure": type(error).__name__}
    return {**_seen(watch), "service": str(service.service_name or scheme), "done": bool(done)}


def _seen(watch: Watch) -> dict[str, Any]:
    return {"refused": watch.refused, "sent": watch.sent, "status": watch.status, "isMail": watch.is_mail}


def _limit_memory() -> None:
    """A mail server's answer has no other limit. Not every system takes one."""
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    most = _MOST_MEMORY if hard == resource.RLIM_INFINITY else min(_MOST_MEMORY, hard)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def main() -> None:
    """Reads one order from standard input, sends it, and writes the result to standard output."""
    logging.disable(logging.CRITICAL)
    _limit_memory()
    order = json.loads(sys.stdin.buffer.read())
    out = os.dup(1)
    os.dup2(2, 1)  # output of a service must not mix with the answer
    answer = json.dumps(_send(order)).encode()
    os.write(out, answer)
    os._exit(0)


if __name__ == "__main__":
    main()
