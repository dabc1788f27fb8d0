"""Compose, images, and the configuration of everything around a node, given to the real programs."""

import json
import pathlib
import re
import socket
import subprocess
import sys

import pytest
import yaml
from balancer import HAPROXY, FakeNode, balancing, lay_out
from conftest import ROOT, only, render
from processes import accepts, child, free_port, program, run, until

DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
NODES = ("node-a", "node-b")


def beside_python(name):
    return pathlib.Path(sys.executable).with_name(name)


# Compose


def test_the_compose_file_fits_the_specification():
    run(
        beside_python("check-jsonschema"),
        "--builtin-schema",
        "vendor.compose-spec",
        ROOT / "docker-compose.yml",
    )


def test_a_misspelt_key_in_the_compose_file_would_be_found(tmp_path):
    wrong = (ROOT / "docker-compose.yml").read_text().replace("condition:", "conditon:", 1)
    (tmp_path / "docker-compose.yml").write_text(wrong)

    done = subprocess.run(
        [
            beside_python("check-jsonschema"),
            "--builtin-schema",
            "vendor.compose-spec",
            tmp_path / "docker-compose.yml",
        ],
        capture_output=True,
        check=False,
    )

    assert done.returncode == 1


def test_every_variable_of_the_compose_file_has_a_default_and_is_in_the_example():
    text = (ROOT / "docker-compose.yml").read_text()
    used = dict(re.findall(r"\$\{([A-Z_]+):-([^}]*)\}", text))
    example = dict(re.findall(r"^([A-Z_]+)=(.*)$", (ROOT / ".env.example").read_text(), re.M))

    assert used == example
    assert len(re.findall(r"\$\{", text)) == len(re.findall(r"\$\{[A-Z_]+:-", text))


def test_every_container_is_hardened_watched_and_pinned():
    for name, service in COMPOSE["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["healthcheck"]["test"], name
        assert re.search(r":(?!latest)[^:]+$", service["image"]), name


def test_every_file_a_container_mounts_exists():
    for service in COMPOSE["services"].values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (ROOT / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]


def test_only_the_balancer_and_prometheus_are_published_and_on_loopback():
    ports = {name: s["ports"] for name, s in COMPOSE["services"].items() if "ports" in s}

    assert ports.keys() == {"lb", "prometheus"}
    assert all(port.startswith("${BIND_ADDRESS:-127.0.0.1}:") for (port,) in ports.values())


def test_a_container_is_not_killed_before_its_drain_ends():
    drain = (DEPLOY / "compose" / "tidewire.toml").read_text()
    deadline = int(re.search(r'^deadline = "(\d+)s"$', drain, re.M)[1])

    for node in NODES:
        grace = int(COMPOSE["services"][node]["stop_grace_period"].removesuffix("s"))
        assert grace >= deadline + 10


# Image


def test_the_dockerfile_has_no_lint():
    run(beside_python("hadolint"), DEPLOY / "Dockerfile")


def test_everything_the_image_is_built_from_reaches_the_builder():
    allowed = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.M)
    manifest = (ROOT / "Cargo.toml").read_text()
    members = re.findall(r'"([^"]+)"', re.search(r"members = \[(.*?)\]", manifest, re.S)[1])

    assert {"Cargo.toml", "Cargo.lock"} <= set(allowed)
    assert {member.split("/")[0] for member in members} <= set(allowed)


# Balancer


@pytest.fixture
def balancer(tmp_path):
    nodes = {name: FakeNode(name) for name in NODES}
    # Of one home each, so that it is known where they are.
    with balancing(tmp_path, nodes, homes=dict.fromkeys(TENANTS, 1)) as subject:
        yield subject
    for node in nodes.values():
        node.end()


TENANTS = [f"tenant-{number}" for number in range(60)]


def test_the_balancer_accepts_its_configuration(tmp_path):
    # Names of containers do not resolve here; every other warning counts.
    text = re.sub(r"node-[ab]:8000", "127.0.0.1:1", (HAPROXY / "haproxy.cfg").read_text())

    output = run(program("haproxy"), "-c", "-f", lay_out(tmp_path, text))

    assert "WARNING" not in output, output


def test_servers_are_called_what_nodes_call_their_slots_and_every_file_is_mounted():
    text = (HAPROXY / "haproxy.cfg").read_text()
    slots = [COMPOSE["services"][name]["hostname"] for name in NODES]
    mounted = {volume.split(":")[0] for volume in COMPOSE["services"]["lb"]["volumes"]}

    assert re.findall(r"server (\S+) \S+:8000 weight 100$", text, re.M) == slots
    assert mounted == {f"./deploy/haproxy/{file.name}" for file in HAPROXY.iterdir()}


def test_a_connection_without_a_tenant_goes_anywhere(balancer):
    assert {balancer.ask("/v1/ws") for _ in range(20)} == set(NODES)


def test_a_draining_node_loses_its_newcomers_and_nobody_else_moves(balancer):
    before = balancer.placement(TENANTS)
    moving = next(tenant for tenant, node in before.items() if node == "node-a")

    balancer.nodes["node-a"].ready = False
    until(lambda: balancer.ask(f"/v1/{moving}/ws") == "node-b", "failover")

    assert set(balancer.placement(TENANTS).values()) == {"node-b"}
    assert {balancer.ask("/v1/ws") for _ in range(10)} == {"node-b"}

    balancer.nodes["node-a"].ready = True
    until(lambda: balancer.ask(f"/v1/{moving}/ws") == "node-a", "return")

    assert balancer.placement(TENANTS) == before


def test_a_connection_stays_open_while_its_node_drains(balancer):
    # A drain moves clients itself; a balancer that cuts them when readiness fails would undo it.
    placed = balancer.placement(TENANTS)
    tenant = next(tenant for tenant, node in placed.items() if node == "node-a")
    upgrade = (
        f"GET /v1/{tenant}/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )

    with socket.create_connection(("127.0.0.1", balancer.port), timeout=5) as client:
        client.sendall(upgrade.encode())
        assert client.recv(4096).startswith(b"HTTP/1.1 101")
        balancer.nodes["node-a"].ready = False
        until(lambda: balancer.ask(f"/v1/{tenant}/ws") == "node-b", "failover")

        client.sendall(b"still here\n")
        assert client.recv(4096) == b"still here\n"


# NATS, Redis, Prometheus


@pytest.fixture(params=["compose", "chart"])
def shipped(request):
    """A configuration file by its name, as compose mounts it or as the chart renders it."""

    def read(name):
        if request.param == "compose":
            return (DEPLOY / name).read_text()
        return only(render(), "ConfigMap", f"-{name.removesuffix('.conf')}")["data"][name]

    return read


def test_nats_accepts_its_configuration(shipped, tmp_path):
    (tmp_path / "nats.conf").write_text(shipped("nats.conf"))

    assert "is valid" in run(program("nats-server"), "-t", "-c", tmp_path / "nats.conf")


def test_redis_runs_with_its_configuration(shipped, tmp_path):
    port = free_port()
    text = shipped("redis.conf").replace("dir /data", f"dir {tmp_path}")
    (tmp_path / "redis.conf").write_text(text)
    command = [program("redis-server"), tmp_path / "redis.conf", "--port", port, "--bind", "127.0.0.1"]
    with child(*command):
        until(lambda: accepts(port), "redis listening")

        def setting(name):
            return run(program("redis-cli"), "-p", port, "config", "get", name).split("\n")[1]

        assert setting("maxmemory-policy") == "noeviction"
        assert setting("maxmemory") == str(512 * 1024 * 1024)
        assert setting("appendonly") == "yes"


def test_prometheus_accepts_its_configuration_and_rules():
    run(program("promtool"), "check", "config", DEPLOY / "prometheus" / "prometheus.yml")


def test_every_alert_fires_on_its_trouble_and_stays_silent_without():
    tests = DEPLOY / "prometheus" / "tests" / "tidewire.yml"
    run(program("promtool"), "test", "rules", tests)

    groups = yaml.safe_load((DEPLOY / "prometheus" / "rules" / "tidewire.yml").read_text())["groups"]
    alerts = {rule["alert"] for group in groups for rule in group["rules"]}
    healthy, broken = yaml.safe_load(tests.read_text())["tests"]
    assert {test["alertname"] for test in healthy["alert_rule_test"]} == alerts
    assert {test["alertname"] for test in broken["alert_rule_test"] if test["exp_alerts"]} == alerts


# Style


def tracked(*patterns):
    output = run("git", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard", *patterns)
    return [ROOT / line for line in output.splitlines() if (ROOT / line).is_file()]


def test_yaml_has_no_lint():
    files = [path for path in tracked("*.yml", "*.yaml") if "templates" not in path.parts]

    assert len(files) >= 6
    run(program("yamllint"), "--strict", "-c", DEPLOY / "checks" / "yamllint.yml", *files)


def test_shell_has_no_lint():
    first_lines = {path: path.open("rb").readline() for path in tracked()}
    scripts = [p for p, line in first_lines.items() if re.match(rb"#!.*\b(ba)?sh\b", line)]

    if scripts:
        run(program("shellcheck"), *scripts)


def test_json_files_parse():
    for path in tracked("helm/*.json", "deploy/*.json"):
        json.loads(path.read_text())
