"""The program under test accepts every tidewire.toml that is shipped or rendered here."""

import os
import re
import subprocess
import tomllib

import pytest
from conftest import ROOT, only


@pytest.fixture
def check(tidewire, tmp_path):
    """Runs `tidewire config check` on a file, and says how it ended and what it wrote."""

    def run(toml):
        path = tmp_path / "tidewire.toml"
        path.write_text(toml)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("TIDEWIRE_")}
        return subprocess.run(
            [tidewire, "config", "check", "--config", path],
            capture_output=True,
            text=True,
            timeout=30,
            env=environment,
            check=False,
        )

    return run


def with_secrets(toml, folder):
    """The file as in a pod, with the mounted secrets in a folder of ours."""
    folder.mkdir()
    for name in re.findall(r'"/etc/tidewire/secrets/([^"]+)"', toml):
        (folder / name).write_text("a-secret-for-the-check-of-more-than-32-bytes")
    return toml.replace("/etc/tidewire/secrets", str(folder))


def test_the_compose_file_of_a_node_is_accepted(check):
    done = check((ROOT / "deploy" / "compose" / "tidewire.toml").read_text())

    assert done.returncode == 0, done.stderr


def test_the_chart_renders_files_that_are_accepted(check, example, tmp_path):
    _, manifests = example
    toml = only(manifests, "ConfigMap")["data"]["tidewire.toml"]

    done = check(with_secrets(toml, tmp_path / "secrets"))

    assert done.returncode == 0, done.stderr


def test_a_misspelt_key_is_refused_with_a_suggestion(check):
    toml = (ROOT / "deploy" / "compose" / "tidewire.toml").read_text()

    done = check(toml.replace("deadline =", "deadlin ="))

    assert done.returncode == 1
    assert "deadline" in done.stderr


def test_every_key_of_the_compose_file_is_one_the_schema_knows(tidewire):
    schema = subprocess.run(
        [tidewire, "config", "schema"], capture_output=True, text=True, check=True, timeout=30
    ).stdout
    sections = tomllib.loads((ROOT / "deploy" / "compose" / "tidewire.toml").read_text())

    assert all(f'"{key}"' in schema for section in sections for key in (section,))
