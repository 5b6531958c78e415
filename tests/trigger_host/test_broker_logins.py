"""Triggers log in to brokers over TLS, and say which field mends it where they cannot."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import nats
import pytest
from paho.mqtt import publish as mqtt

from dustrun.catalog import load
from dustrun.connectors.mqtt import Data as MqttData
from dustrun.connectors.nats import Data as NatsData
from dustrun.sdk.context import NoConnection
from dustrun.triggers.streamed.mqtt import Config as MqttConfig
from dustrun.triggers.streamed.nats import Config as NatsConfig
from testkit.brokers import PASSWORD, Broker
from testkit.certificates import CERTIFICATE, self_signed
from trigger_host.test_mqtt import Context, taken

WRONG = "pw_9876543210"
CONFIGS = {
    "nats": NatsConfig(stream="NUMBERS", consumer="test"),
    "mqtt": MqttConfig(topic="plant/+", client_id="dustrun-test"),
}


def listen(kind: str, port: int, **more: Any) -> Any:
    data = {"host": "localhost", "tls": "verify-full", **more}
    context: Any = Context(port, NatsData if kind == "nats" else MqttData, **data)
    opens = load().triggers[kind].listen
    assert opens is not None
    return opens(context, CONFIGS[kind], None)


async def refusal(kind: str, port: int, **more: Any) -> tuple[str, int | None]:
    async with asyncio.timeout(30):
        with pytest.raises(NoConnection) as caught:
            await anext(listen(kind, port, **more))
    assert WRONG not in caught.value.message
    return caught.value.message, caught.value.status


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    self_signed(tmp_path, "localhost")
    broker = Broker(tmp_path / "broker", certificates=tmp_path)
    await broker.start()
    yield broker
    broker.stop()


async def publish(kind: str, port: int, certificate: Path) -> None:
    text = json.dumps({"n": 1})
    if kind == "mqtt":
        auth: Any = {"username": "dustrun", "password": PASSWORD}
        tls: Any = {"ca_certs": str(certificate)}
        await asyncio.to_thread(
            mqtt.single, "plant/7", text, 1, hostname="localhost", port=port, auth=auth, tls=tls, keepalive=60
        )
        return
    trusts = ssl.create_default_context(cafile=str(certificate))
    client = await nats.connect(f"tls://localhost:{port}", user="dustrun", password=PASSWORD, tls=trusts)
    await client.jetstream().publish("numbers.all", text.encode())
    await client.close()


@pytest.mark.parametrize("kind", ["nats", "mqtt"])
async def test_users_log_in_over_tls_and_what_is_refused_is_told(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    port = broker.nats_port if kind == "nats" else broker.port
    message, status = await refusal(kind, port)
    assert "certificate that is not accepted (self-signed certificate)" in message
    assert "`host` must have the name in it" in message
    assert status is None
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / CERTIFICATE))
    message, status = await refusal(kind, port, host="other.example.com")
    assert "Hostname mismatch" in message
    message, status = await refusal(kind, port, password=WRONG)
    assert "check `user` and `password`" in message
    assert status == 401
    message, status = await refusal(kind, port, tls="disable")
    assert "`tls`" in message
    assert status is None
    if kind == "nats":
        message, status = await refusal(kind, port, user=None, password=None, token=WRONG)
        assert "check `token`" in message
        assert status == 401
        trusts = ssl.create_default_context(cafile=str(tmp_path / CERTIFICATE))
        client = await nats.connect(f"tls://localhost:{port}", user="dustrun", password=PASSWORD, tls=trusts)
        await client.jetstream().add_stream(name="NUMBERS", subjects=["numbers.*"])
        await client.close()
    source = listen(kind, port)
    await anext(source)
    await publish(kind, port, tmp_path / CERTIFICATE)
    (event,) = await taken(source, 1)
    assert event.payload["message"] == {"n": 1}
    await source.aclose()


@pytest.mark.parametrize("given", [{}, {"user": None, "password": None, "token": "tok_0123456789"}])
async def test_a_nats_server_that_does_not_encrypt_is_told_nothing(given: dict[str, Any]) -> None:
    """Or whoever is between could read the password: the server itself says whether it encrypts."""
    heard = asyncio.get_running_loop().create_future()

    async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"x","version":"2.10.0","max_payload":1000,"auth_required":true}\r\n')
        heard.set_result(await reader.read())
        writer.close()

    async with await asyncio.start_server(ask, "127.0.0.1", 0) as server:
        message, _ = await refusal("nats", server.sockets[0].getsockname()[1], **given)
        assert "does not encrypt" in message
        assert "check `host` and `port`" in message
        assert await heard == b""


@pytest.mark.long  # a silent server is given its whole time
async def test_a_nats_server_that_is_silent_is_told() -> None:
    is_over = asyncio.Event()

    async def wait(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await is_over.wait()
        writer.close()

    async with await asyncio.start_server(wait, "127.0.0.1", 0) as server:
        try:
            assert (
                "does not answer in time: check `host`"
                in (await refusal("nats", server.sockets[0].getsockname()[1]))[0]
            )
        finally:
            is_over.set()


async def test_a_nats_server_that_is_not_there_is_told() -> None:
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
    assert "check `host`" in (await refusal("nats", port))[0]
