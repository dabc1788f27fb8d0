"""The program under test accepts every tidewire.toml that is shipped or rendered here."""

import re
import shlex
import subprocess

import pytest
import yaml
from conftest import CHART, ROOT, only, render
from helm_python.chart import Chart
from helm_python.errors import HelmError
from processes import environment


@pytest.fixture
def check(tidewire, tmp_path):
    """Runs `tidewire config check` on a file, and says how it ended and what it wrote."""

    def run(toml):
        path = tmp_path / "tidewire.toml"
        path.write_text(toml)
        return subprocess.run(
            [tidewire, "config", "check", "--config", path],
            capture_output=True,
            text=True,
            timeout=30,
            env=environment(),
            check=False,
        )

    return run


def with_secrets(toml, folder):
    """The file as in a pod, with the mounted secrets in a folder of ours."""
    folder.mkdir()
    for name in re.findall(r'"/etc/tidewire/secrets/([^"]+)"', toml):
        (folder / name).write_text("a-secret-for-the-check-of-more-than-32-bytes")
    return toml.replace("/etc/tidewire/secrets", str(folder))


def without_certificate(toml):
    """The file without `[tls]`: the pair of files that it names is only in a pod."""
    return re.sub(r"^\[tls\]\n(?:[^\[\n].*\n|\n)*", "", toml, flags=re.MULTILINE)


def test_the_compose_file_of_a_node_is_accepted(check):
    done = check((ROOT / "deploy" / "compose" / "tidewire.toml").read_text())

    assert done.returncode == 0, done.stderr


def test_the_chart_renders_files_that_are_accepted(check, example, tmp_path):
    _, manifests = example
    toml = only(manifests, "ConfigMap")["data"]["tidewire.toml"]

    done = check(without_certificate(with_secrets(toml, tmp_path / "secrets")))

    assert done.returncode == 0, done.stderr


def test_a_misspelt_key_is_refused_with_a_suggestion(check):
    toml = (ROOT / "deploy" / "compose" / "tidewire.toml").read_text()

    done = check(toml.replace("deadline =", "deadlin ="))

    assert done.returncode == 1
    assert "deadline" in done.stderr


def test_every_environment_variable_of_the_compose_file_is_one_the_program_knows(tidewire, tmp_path):
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    variables = {n: v for s in compose["services"].values() for n, v in s.get("environment", {}).items()}
    defaults = {name: re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value) for name, value in variables.items()}

    done = subprocess.run(
        [tidewire, "config", "check", "--config", ROOT / "deploy" / "compose" / "tidewire.toml"],
        capture_output=True,
        text=True,
        timeout=30,
        env={**environment(), **defaults},
        check=False,
    )

    assert variables
    assert done.returncode == 0, done.stderr


def test_the_chart_and_the_program_agree_on_durations(check):
    toml = (ROOT / "deploy" / "compose" / "tidewire.toml").read_text()

    for deadline in ("90s", "2m", "25000ms", "1h"):
        render({"config": {"drain": {"deadline": deadline}}})
        assert check(toml.replace('deadline = "30s"', f'deadline = "{deadline}"')).returncode == 0
    for deadline in ("1m30s", "90", "2 m"):
        with pytest.raises(HelmError):
            render({"config": {"drain": {"deadline": deadline}}})
        assert check(toml.replace('deadline = "30s"', f'deadline = "{deadline}"')).returncode == 1


@pytest.mark.parametrize("arguments", [["health", "--ready", "--url"], ["serve", "--config"]])
def test_the_commands_that_containers_run_exist(tidewire, arguments):
    command, *options = arguments

    help_text = subprocess.run(
        [tidewire, command, "--help"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
        env=environment(),
    ).stdout

    assert all(option in help_text for option in options)


def test_the_token_that_the_notes_of_the_chart_make_is_valid(tidewire, tmp_path):
    with Chart.load(CHART) as chart:
        notes = chart.render({}, name="demo")["tidewire/templates/NOTES.txt"]
    command = re.search(r"TIDEWIRE_TOKEN=\$\((tidewire token create .*?)\)\n", notes, re.S)[1].replace(
        "\\\n", ""
    )
    (tmp_path / "token-secret").write_text("k" * 48)

    _, *arguments = shlex.split(command)
    token = subprocess.check_output(
        [tidewire, *arguments], cwd=tmp_path, text=True, timeout=30, env=environment()
    ).strip()

    key = ["--tenant", "demo", "--secret-file", "token-secret"]
    verified = subprocess.check_output(
        [tidewire, "token", "verify", *key, token], cwd=tmp_path, text=True, timeout=30, env=environment()
    )
    assert "demo" in verified
