"""Renders deploy/helm with its own values, holds it against the schemas of Kubernetes, and writes
deploy/kubernetes.yaml: `python scripts/render_chart.py [--check]`, in an environment with
scripts/requirements/helm.txt."""

from __future__ import annotations

import sys
from pathlib import Path

import helm_python  # type: ignore[import-not-found]  # optional dependency
import kubernetes_validate  # type: ignore[import-not-found]  # optional dependency
import yaml

ROOT = Path(__file__).resolve().parent.parent
CHART, PLAIN = ROOT / "deploy" / "helm", ROOT / "deploy" / "kubernetes.yaml"
VERSIONS = ("1.30", "1.37")
HEAD = """# The chart of deploy/helm with its own values, for kubectl: scripts/render_chart.py writes it.
# Make the Secret `dustrun` first; docs/guides/many-machines.md says how. Wait for the job before you apply the rest.
"""


def render() -> str:
    """The manifests; raises at what Helm or a schema does not accept."""
    found = helm_python.lint(str(CHART))
    if found["errors"] or [one for one in found["messages"] if one["severity"] > 1]:
        raise SystemExit(f"Helm: {found}")
    with helm_python.Chart.load(str(CHART)) as chart:
        files = chart.render({}, name="dustrun", namespace="default")
    text = [files[name].strip() for name in sorted(files, reverse=True) if files[name].strip()]
    for part in text:
        for document in filter(None, yaml.safe_load_all(part)):
            for version in VERSIONS:
                kubernetes_validate.validate(document, version, strict=True)
    return HEAD + "\n---\n".join(text) + "\n"


if __name__ == "__main__":
    rendered = render()
    if "--check" not in sys.argv:
        PLAIN.write_text(rendered)
    elif PLAIN.read_text() != rendered:
        sys.exit("deploy/kubernetes.yaml is not what the chart renders; run scripts/render_chart.py.")
