"""Troubles of the machine, really made, and what the doctor says of them."""

from __future__ import annotations

import http.server
import resource
import sys
import sysconfig
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dustrun.cli.doctor import checkups_machine
from dustrun.settings import Settings
from dustrun.storage.secrets.master_key import MasterKeyFile
from served import served
from testkit.identity_provider import providing_beside
from testkit.ports import free_port


def _settings(folder: Path, **given: Any) -> Settings:
    return Settings(data_dir=folder, **{"master_key_file": folder.parent / "master.key", **given})


def test_a_variable_with_a_typing_error_is_found() -> None:
    environment = {"DUSTRUN_PROT": "1", "DUSTRUN_PORT": "1", "DUSTRUN_SERVER": "x", "dustrun_host": "y", "HOME": "z"}
    (found,) = checkups_machine.unknown_settings(environment)
    assert (found.state, "DUSTRUN_PROT is set" in found.says) == ("warning", True)
    assert (found.mend or "").startswith("Did you mean DUSTRUN_PORT? ")


@pytest.mark.parametrize(
    ("arguments", "distances", "expected"),
    [
        ("'--enable-shared' '--enable-optimizations'", [0, 0], True),  # most distributions, python.org, uv
        ("'--enable-shared' '--without-ensurepip'", [1_235_392, 1_055_232], True),  # Debian's 3.13
        ("'--enable-shared' '--with-dtrace'", [1_017_856, 1_450_496], True),  # Debian's 3.11
        ("'--prefix=/root' '--enable-shared'", [272, 320], False),  # built by pyenv without further options
        ("", [0, 0], False),
    ],
)
def test_a_python_built_without_optimization_is_told_from_one_with(
    arguments: str, distances: list[int], expected: bool
) -> None:
    assert checkups_machine.is_optimized(arguments, distances) is expected


def test_this_python_is_warned_of_unless_a_distribution_or_its_arguments_optimized_it() -> None:
    arguments = sysconfig.get_config_var("CONFIG_ARGS")
    is_optimized = sys.base_prefix == "/usr" or "--enable-optimizations" in arguments
    says = [f"{sys.executable} was built without profile-guided optimization and is slower than it could be"]
    assert [finding.says for finding in checkups_machine.python_build()] == ([] if is_optimized else says)


@pytest.fixture
def _files() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("_files")
def test_too_few_open_files_are_found() -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    for allowed, state in ((400, "bad"), (1024, "warning"), (4096, "ok")):
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, most))
        found = checkups_machine.open_files()
        assert (found.state, str(allowed) in found.says) == (state, True)


@pytest.mark.parametrize(
    ("most", "state", "says"),
    [
        (
            0,
            "ok",
            "not limited for keys, 1000 a second for each address of a webhook, 100 for each public link, with bursts "
            "of twice that",
        ),
        (
            10_000,
            "ok",
            "10000 requests a second for all keys of an organisation together, 1000 for each address of a webhook, 100 "
            "for each public link, with bursts of twice that",
        ),
        (
            100,
            "warning",
            "100 requests a second for all keys of an organisation together, 25 for each address of a webhook, 25 for "
            "each public link, with bursts of twice that",
        ),
    ],
)
def test_a_limit_of_requests_that_a_busy_organisation_meets_is_found(
    tmp_path: Path, most: int, state: str, says: str
) -> None:
    found = checkups_machine.request_rate(Settings(data_dir=tmp_path, rate_limit_per_second=most))
    assert (found.state, found.says, found.mend is not None) == (state, says, state == "warning")


class _Other(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


def test_a_port_that_another_program_has_is_found(tmp_path: Path) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), _Other) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        found = checkups_machine.port(_settings(tmp_path, port=other.server_port))
        other.shutdown()
    assert (found.state, f"cannot listen on 127.0.0.1:{other.server_port}" in found.says) == ("bad", True)
    assert checkups_machine.port(_settings(tmp_path, port=other.server_port)).state == "ok"


def test_a_port_that_a_server_of_ours_has_is_well(tmp_path: Path) -> None:
    with served(tmp_path / "data", master_key_file=str(tmp_path / "master.key")) as server:
        found = checkups_machine.port(_settings(tmp_path, port=int(server.url.rpartition(":")[2])))
    assert (found.state, "a Dustrun server is using" in found.says) == ("ok", True)


def test_an_address_of_another_machine_is_found(tmp_path: Path) -> None:
    assert checkups_machine.port(_settings(tmp_path, host="192.0.2.1", port=free_port())).state == "bad"


def test_endpoints_that_the_outbound_guard_refuses_are_found(tmp_path: Path) -> None:
    endpoints = {1: ("http://geth:8545", "http://user:s3cret@169.254.169.254/key"), 31337: ("http://127.0.0.1:8545",)}
    price_url = "http://[fe80::1]/{chainId}/{symbol}"
    found = checkups_machine.addresses(_settings(tmp_path, chain_endpoints=endpoints, price_url=price_url))
    assert [(one.name, one.state, one.says.partition(", and")[0]) for one in found] == [
        ("endpoints", "bad", 'The host "169.254.169.254" may not be reached on port 80: it is a metadata address'),
        ("endpoints", "bad", 'The host "fe80::1" may not be reached on port 80: it is a link-local address'),
    ]
    own = _settings(tmp_path, chain_endpoints={31337: ("http://127.0.0.1:8545",)}, price_url="http://10.1.2.3/{symbol}")
    assert [(one.state, one.says) for one in checkups_machine.addresses(own)] == [
        ("ok", "the outbound guard refuses none of 2")
    ]
    (found_none,) = checkups_machine.addresses(_settings(tmp_path, networks_dir=Path("/none/at/all")))
    assert (found_none.state, "networks_dir" in found_none.says) == ("bad", True)


def test_what_keeps_people_from_signing_in_with_the_provider_is_found(tmp_path: Path) -> None:
    assert checkups_machine.sign_in(_settings(tmp_path)) == []
    with providing_beside() as provider:
        settings = _settings(tmp_path, **provider.settings)
        (found,) = checkups_machine.sign_in(settings)
        assert (found.state, "http://127.0.0.1:8080/sign-in as redirect URI" in found.says) == ("ok", True)
        (found,) = checkups_machine.sign_in(settings.model_copy(update={"sign_in_issuer": f"{provider.url}/"}))
        assert (found.state, f"is of the issuer {provider.url}" in found.says) == ("bad", True)
        (found,) = checkups_machine.sign_in(settings.model_copy(update={"sign_in_groups": {"a": ("run:raed",)}}))
        assert (found.state, '"run:raed"' in found.says) == ("bad", True)
        provider.keys.clear()
        (found,) = checkups_machine.sign_in(settings)
        assert (found.state, "publishes no key" in found.says) == ("bad", True)
        provider.is_down = True
        (found,) = checkups_machine.sign_in(settings)
        assert (found.state, "answers 503" in found.says) == ("bad", True)


def test_the_sandbox_is_really_started(tmp_path: Path) -> None:
    assert checkups_machine.sandbox(_settings(tmp_path)).state in ("ok", "warning")


def test_a_sandbox_that_cannot_start_is_found(tmp_path: Path) -> None:
    found = checkups_machine.sandbox(_settings(tmp_path), lambda: [str(tmp_path / "no-python")])
    assert (found.state, "sandbox process cannot be started" in found.says) == ("bad", True)


def test_a_master_key_that_others_may_read_or_that_lies_with_the_data_is_found(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    assert checkups_machine.master_key_place(_settings(data)) == []
    MasterKeyFile(tmp_path / "master.key").create()
    assert [found.state for found in checkups_machine.master_key_place(_settings(data))] == ["ok"]
    (tmp_path / "master.key").chmod(0o644)
    (found,) = checkups_machine.master_key_place(_settings(data))
    assert (found.state, "chmod 600" in found.says) == ("bad", True)
    MasterKeyFile(data / "master.key").create()
    (found,) = checkups_machine.master_key_place(_settings(data, master_key_file=data / "master.key"))
    assert (found.state, "inside the data folder" in found.says) == ("warning", True)
