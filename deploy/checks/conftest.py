"""What every check needs: where things are, and the chart rendered."""

import os
import pathlib

import pytest
import yaml
from helm_python.chart import Chart

ROOT = pathlib.Path(__file__).parents[2]
CHART = ROOT / "helm" / "tidewire"
CI_VALUES = sorted((CHART / "ci").glob("*-values.yaml"))


def values_of(path):
    return yaml.safe_load(path.read_text())


def render(values=None, release="demo"):
    """The chart's manifests, as a list of objects."""
    with Chart.load(CHART) as chart:
        templates = chart.render(values or {}, name=release, namespace="edge")
    manifests = (text for path, text in templates.items() if path.endswith(".yaml"))
    return [document for text in manifests for document in yaml.safe_load_all(text) if document]


def only(manifests, kind, suffix=""):
    """The one object of a kind whose name ends in a suffix after the release's name."""
    name = f"demo-tidewire{suffix}"
    found = [m for m in manifests if m["kind"] == kind and m["metadata"]["name"] == name]
    assert len(found) == 1, f"{len(found)} of {kind} {name}"
    return found[0]


@pytest.fixture(scope="session")
def tidewire():
    """The program under test."""
    path = pathlib.Path(os.environ.get("TIDEWIRE_BIN", ROOT / "target" / "debug" / "tidewire"))
    assert path.is_file(), f"{path} is missing; build it with: cargo build --package tidewire"
    return path


@pytest.fixture(scope="session", params=[None, *CI_VALUES], ids=lambda p: p.stem if p else "defaults")
def example(request):
    """The values of each example, and what they render to."""
    values = values_of(request.param) if request.param else {}
    return values, render(values)
