"""The container: what its files say, what their linters say, and, where Docker is, that it runs."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import build_web
import pytest
import yaml

from dustrun.settings import Settings
from served import ROOT
from testkit.e2e.node import npm_install
from testkit.ports import free_port
from testkit.server_process import ServerProcess

DEPLOY = ROOT / "deploy"
DOCKERFILE = DEPLOY / "Dockerfile"
SQLITE, POSTGRES = DEPLOY / "compose.yaml", DEPLOY / "compose.postgres.yaml"
CLUSTER = DEPLOY / "compose.cluster.yaml"
LINTERS = ROOT / "testkit" / "containers"
PINNED = re.compile(r"[a-z]+:\d+\.\d+(\.\d+)?-[a-z-]+")
USER = "10001:10001"
Json = dict[str, Any]


def _lint(tool: str, *words: str) -> tuple[int, str]:
    environment = npm_install(LINTERS)
    command = [str(LINTERS / "node_modules" / ".bin" / tool), *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stdout + done.stderr


def _instructions() -> list[tuple[str, str]]:
    """Instruction and words of every line, with continued lines joined."""
    text = re.sub(r"\\\n\s*", "", DOCKERFILE.read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.split()[0], line.split(None, 1)[1]) for line in lines]


def _words(name: str) -> list[str]:
    return [words for instruction, words in _instructions() if instruction == name]


def _compose(path: Path) -> Json:
    found: Json = yaml.safe_load(path.read_text())
    return found


@pytest.mark.long
def test_linters_accept_the_files_and_find_a_fault(tmp_path: Path) -> None:
    assert _lint("dockerfile-utils", "lint", str(DOCKERFILE))[0] == 0
    status, output = _lint("dclint", "--max-warnings", "0", *map(str, (SQLITE, POSTGRES, CLUSTER)))
    assert status == 0, output
    broken = tmp_path / "Dockerfile"
    broken.write_text(DOCKERFILE.read_text().replace("USER ", "USR "))
    assert _lint("dockerfile-utils", "lint", str(broken))[0] == 1
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(SQLITE.read_text().replace("volumes:", "volums:"))
    assert "invalid-schema" in _lint("dclint", str(wrong))[1]


def test_the_image_is_pinned_runs_without_root_and_copies_no_secret() -> None:
    images = [words.split()[0] for words in _words("FROM")]
    images += [_compose(path)["services"]["postgres"]["image"] for path in (POSTGRES, CLUSTER)]
    assert [image for image in images if PINNED.fullmatch(image) is None] == []
    order = [instruction for instruction, _ in _instructions()]
    assert _words("USER") == [USER]
    assert order.index("USER") > max(place for place, name in enumerate(order) if name == "RUN")
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    allowed = {line[1:] for line in ignored if line.startswith("!")}
    copied = [words for words in _words("COPY") if not words.startswith("--from")]
    assert {source.rstrip("/") for words in copied for source in words.split()[:-1]} == allowed
    assert [name for name in allowed if not (ROOT / name).exists()] == []
    assert "*" in ignored


def test_the_build_sees_every_file_that_the_project_names() -> None:
    named = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project, built = named["project"], named["tool"]["hatch"]["build"]
    wheel = built["targets"]["wheel"]
    needed = [project["readme"], "LICENSE", "constraints.txt", *wheel["packages"], *wheel["force-include"]]
    needed += [hook["path"] for hook in built["hooks"].values()]
    copied = [source for words in _words("COPY") if not words.startswith("--from") for source in words.split()[:-1]]
    seen = [Path(source) for source in copied]
    assert [path for path in needed if not any(Path(path).is_relative_to(place) for place in seen)] == []


def test_what_has_no_wheel_is_compiled_and_no_compiler_gets_into_the_image() -> None:
    """quickjs has no wheel for Python 3.13 and for ARM; the slim image has no compiler."""
    order = _instructions()
    stages = [place for place, (name, _) in enumerate(order) if name == "FROM"]
    compiling = next(place for place, (name, words) in enumerate(order) if name == "RUN" and " gcc " in words)
    installing = next(
        place for place, (name, words) in enumerate(order) if name == "RUN" and " install --no-cache" in words
    )
    assert stages[0] < compiling < installing < stages[-1]


def test_an_unknown_user_can_enter_the_folder_of_the_volumes() -> None:
    """A container can be given any user; the volumes are then that user's."""
    making = next(words for words in _words("RUN") if "install -d" in words)
    modes = re.findall(r"install -d (?:-o \S+ -g \S+ )?-m (\d+) ([^&]+)", making)
    assert {path: mode for mode, paths in modes for path in paths.split()} == {
        "/var/lib/dustrun": "0755",
        "/var/lib/dustrun/data": "0700",
        "/var/lib/dustrun/secret": "0700",
    }


def test_settings_exist_and_volumes_hold_data_and_key_apart() -> None:
    (environment,) = _words("ENV")
    given = dict(re.findall(r"DUSTRUN_(\w+)=(\S+)", environment))
    assert {name.lower() for name in given} <= set(Settings.model_fields)
    data, key = Path(given["DATA_DIR"]), Path(given["MASTER_KEY_FILE"]).parent
    assert not key.is_relative_to(data)
    (volumes,) = _words("VOLUME")
    assert json.loads(volumes) == [str(data), str(key)]
    service = _compose(SQLITE)["services"]["dustrun"]
    assert [volume.split(":")[1] for volume in service["volumes"]] == [str(data), str(key)]
    assert service["ports"] == [f"127.0.0.1:{given['PORT']}:{given['PORT']}"]
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    overlay = _compose(POSTGRES)["services"]
    named = {name for name in overlay["dustrun"]["environment"] if name.startswith("DUSTRUN_")}
    assert {name.removeprefix("DUSTRUN_").lower() for name in named} <= set(Settings.model_fields)
    asked = [overlay["dustrun"]["environment"]["PGPASSWORD"], overlay["postgres"]["environment"]["POSTGRES_PASSWORD"]]
    assert {value.split(":?")[0] for value in asked} == {"${POSTGRES_PASSWORD"}, "the password stands in no file"


def test_a_cluster_has_every_role_settings_that_exist_and_one_owner_key() -> None:
    services = _compose(CLUSTER)["services"]
    ours = {name: service for name, service in services.items() if "build" in service}
    named = {name for one in ours.values() for name in one["environment"] if name.startswith("DUSTRUN_")}
    assert {name.removeprefix("DUSTRUN_").lower() for name in named} <= set(Settings.model_fields)
    roles = Counter(one["environment"]["DUSTRUN_ROLES"] for one in ours.values())
    assert roles == {"api": 2, "engine": 1, "triggers": 1}
    assert {ours[name]["deploy"]["replicas"] for name in ("engine", "triggers")} == {2}
    assert len({one["environment"]["DUSTRUN_DATABASE_URL"] for one in ours.values()}) == 1
    assert all("secret:/var/lib/dustrun/secret" in one["volumes"] for one in ours.values())
    # whoever starts first on a new store writes the owner's key: the one that keeps its data
    assert "data:/var/lib/dustrun/data" in ours["api-1"]["volumes"]
    waiting = {name: one["depends_on"] for name, one in ours.items() if name != "api-1"}
    assert set(map(str, waiting.values())) == {"{'api-1': {'condition': 'service_healthy'}}"}
    assert "ARG EXTRAS" in DOCKERFILE.read_text()


async def test_the_health_check_tells_a_server_that_answers_from_one_that_does_not(tmp_path: Path) -> None:
    check = next(words for words in _words("HEALTHCHECK"))
    command = json.loads(check[check.index("CMD ") + 4 :])

    def status(port: int) -> int:
        environment = {**os.environ, "DUSTRUN_PORT": str(port)}
        words = [sys.executable, *command[1:]]
        return subprocess.run(words, env=environment, capture_output=True, check=False, timeout=30).returncode

    server = ServerProcess(tmp_path / "data")
    server.start()
    try:
        await server.wait_ready()
        assert (status(server.port), status(free_port())) == (0, 1)
    finally:
        await server.stop()


@pytest.mark.long
async def test_a_wheel_of_what_the_image_copies_starts_read_only_with_app_and_guides(tmp_path: Path) -> None:
    sources, installed = tmp_path / "build", tmp_path / "installed"
    await asyncio.to_thread(_install_from, _copied_to(sources), installed)
    before = _read_only(installed)
    environment = {"PYTHONPATH": str(installed), "PYTHONDONTWRITEBYTECODE": "1"}
    where = "import dustrun; print(dustrun.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", where], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert Path(found.stdout.strip()) == installed / "dustrun" / "__init__.py"
    guides = {path.name for path in (ROOT / "docs" / "guides").iterdir()}
    assert {path.name for path in (installed / "dustrun" / "guides").iterdir()} == guides
    port = free_port()
    serve = [sys.executable, "-m", "dustrun", "serve", "--port", str(port), "--data-dir", str(tmp_path / "data")]
    server = subprocess.Popen(serve, env={**environment, "HOME": str(tmp_path)}, cwd=tmp_path)
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            while not await _answers(session, "/readyz"):
                assert server.poll() is None, "the server ended"
                await asyncio.sleep(0.1)
            assert await _answers(session, "/")
    finally:
        server.terminate()
        await asyncio.to_thread(server.wait, 60)
    assert _read_only(installed) == before  # root could write there all the same


_READ_ONLY_ROOT = """
set -e
mount --make-rprivate /
mount --bind "$1" /srv
mount --bind "$2" /mnt
for place in $(awk '{print $5}' /proc/self/mountinfo); do
  case $place in /proc*|/sys*|/mnt) ;; *) mount -o remount,bind,ro "$place" 2>/dev/null || true ;; esac
done
cd /
shift 2
exec setpriv --reuid=12345 --regid=12345 --clear-groups "$@"
"""
"""In a mount namespace: everything is read-only but the volumes, at /mnt; what is installed is at /srv."""


@pytest.mark.long
async def test_a_server_of_an_unknown_user_starts_where_only_its_volumes_can_be_written(tmp_path: Path) -> None:
    if os.geteuid() != 0 or any(shutil.which(one) is None for one in ("unshare", "setpriv")):
        pytest.skip("another root file system needs root, unshare and setpriv")
    if not all(folder.stat().st_mode & 1 for folder in Path(sys.executable).resolve().parents):
        pytest.skip("only root can start this Python")
    installed, volumes, port = tmp_path / "installed", tmp_path / "volumes", free_port()
    await asyncio.to_thread(_install_from, _copied_to(tmp_path / "build"), installed)
    for name in ("data", "secret"):
        (volumes / name).mkdir(parents=True, mode=0o700)
        os.chown(volumes / name, 12345, 12345)
    settings = {"DATA_DIR": "/mnt/data", "MASTER_KEY_FILE": "/mnt/secret/master.key", "PORT": str(port)}
    environment = {f"DUSTRUN_{name}": value for name, value in settings.items()}
    environment |= {"PYTHONPATH": "/srv", "PYTHONDONTWRITEBYTECODE": "1", "PATH": "/usr/bin:/bin", "HOME": "/nowhere"}
    inside = ["unshare", "--mount", "bash", "-c", _READ_ONLY_ROOT, "bash", str(installed), str(volumes)]
    touched = subprocess.run(
        [*inside, "touch", "/srv/touched"], capture_output=True, text=True, check=False, timeout=60
    )
    assert "Read-only file system" in touched.stderr
    serve = [*inside, sys.executable, "-m", "dustrun", "serve"]
    os.chown(volumes / "data", 0, 0)
    refused = subprocess.run(serve, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert "must be writable by the user that runs the server, 12345" in refused.stderr
    os.chown(volumes / "data", 12345, 12345)
    server = subprocess.Popen(serve, env=environment)
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            while not await _answers(session, "/readyz"):
                assert server.poll() is None, "the server ended"
                await asyncio.sleep(0.1)
            assert await _answers(session, "/")
    finally:
        server.terminate()
        await asyncio.to_thread(server.wait, 60)
    assert {file.stat().st_uid for file in (volumes / "data").iterdir()} == {12345}


def _read_only(folder: Path) -> dict[Path, int]:
    """Takes the right to write from a folder and all in it; what is there, and when it was last changed."""
    found = {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}
    for path in (folder, *found):
        path.chmod(path.stat().st_mode & ~0o222)
    return found


def _copied_to(folder: Path) -> Path:
    """The files that a build of the image can see, and nothing else."""
    build_web.build()  # a build in the image makes the app itself; here it is shared with the other tests
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    left_out = shutil.ignore_patterns(*(line.removeprefix("**/") for line in lines if line.startswith("**/")))
    for name in (line[1:] for line in lines if line.startswith("!")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=left_out)
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


def _install_from(sources: Path, target: Path) -> None:
    """As the image does, without what the project depends on: that is in this environment."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile"]
    command += ["--target", str(target), str(sources)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]


async def _answers(session: aiohttp.ClientSession, path: str) -> bool:
    try:
        async with session.get(path) as response:
            return response.status == 200
    except aiohttp.ClientConnectionError:
        return False


@pytest.mark.skipif(shutil.which("docker") is None, reason="this machine has no Docker")
@pytest.mark.parametrize("files", [(SQLITE,), (SQLITE, POSTGRES)], ids=["sqlite", "postgresql"])
def test_compose_starts_a_healthy_server_without_root_that_keeps_its_data(files: tuple[Path, ...]) -> None:
    environment = {**os.environ, "POSTGRES_PASSWORD": "p@ss word/#1", "COMPOSE_PROJECT_NAME": f"dustrun{os.getpid()}"}
    command = ["docker", "compose", *(word for file in files for word in ("-f", str(file)))]

    def compose(*words: str) -> str:
        done = subprocess.run([*command, *words], env=environment, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stderr[-4000:]
        return done.stdout

    try:
        compose("up", "--build", "--detach", "--wait")
        inside = ("exec", "-T", "dustrun")
        assert compose(*inside, "id", "-u").strip() == USER.split(":")[0]
        key = compose(*inside, "cat", "/var/lib/dustrun/data/owner.key")
        compose("restart", "dustrun")
        compose("up", "--detach", "--wait")
        assert compose(*inside, "cat", "/var/lib/dustrun/data/owner.key") == key
        assert json.loads(compose(*inside, "dustrun", "workflow", "list", "--json"))["items"] == []
    finally:
        subprocess.run([*command, "down", "--volumes"], env=environment, capture_output=True, check=False, timeout=120)
