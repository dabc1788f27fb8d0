"""What docker-compose.yml describes, as processes on loopback: NATS, Redis, two nodes and HAProxy.

Every program runs with the file that its container mounts; only addresses and ports differ.
"""

import contextlib
import json
import re
import signal
import subprocess
import threading
import urllib.error
import urllib.request

import pytest
import yaml
from balancer import lay_out
from conftest import ROOT
from processes import accepts, balancer_configuration, child, environment, free_port, program, run, until

DEPLOY = ROOT / "deploy"
NODES = ("node-a", "node-b")


class Topology:
    """The running cluster, seen through its balancer."""

    def __init__(self, tidewire, folder):
        self.tidewire, self.folder = tidewire, folder
        self.port = free_port()
        self.ports = {name: (free_port(), free_port()) for name in NODES}
        self.processes = {}

    @contextlib.contextmanager
    def running(self):
        with contextlib.ExitStack() as stack:
            nats, redis = self.services(stack)
            for name in NODES:
                self.node(stack, name, nats, redis)
            # A balancer that has found them not ready answers 503 for a second after they are.
            until(lambda: all(self.ready(name) for name in NODES), "both nodes ready", 30)
            file = lay_out(self.folder, balancer_configuration(self.ports, self.port, free_port()))
            stack.enter_context(child(program("haproxy"), "-db", "-f", file))
            until(lambda: accepts(self.port), "haproxy listening")
            yield self

    def services(self, stack):
        nats, redis = free_port(), free_port()
        text = (DEPLOY / "nats.conf").read_text().replace("0.0.0.0:4222", f"127.0.0.1:{nats}")
        (self.folder / "nats.conf").write_text(text.replace("0.0.0.0:8222", f"127.0.0.1:{free_port()}"))
        stack.enter_context(child(program("nats-server"), "-c", self.folder / "nats.conf"))
        text = (DEPLOY / "redis.conf").read_text().replace("dir /data", f"dir {self.folder}")
        (self.folder / "redis.conf").write_text(text)
        place = ["--port", redis, "--bind", "127.0.0.1"]
        stack.enter_context(child(program("redis-server"), self.folder / "redis.conf", *place))
        until(lambda: accepts(nats) and accepts(redis), "NATS and Redis listening")
        return nats, redis

    def node(self, stack, name, nats, redis):
        client, ops = self.ports[name]
        variables = {
            **environment(),
            # As the host's name is in a container.
            "TIDEWIRE_NODE__SLOT": name,
            "TIDEWIRE_SERVER__LISTEN": f"127.0.0.1:{client}",
            "TIDEWIRE_OPS__LISTEN": f"127.0.0.1:{ops}",
            "TIDEWIRE_ADMIN__LISTEN": "127.0.0.1:0",
            "TIDEWIRE_NATS__SERVERS": f'["nats://127.0.0.1:{nats}"]',
            "TIDEWIRE_REDIS__ADDRESSES": f'["redis://127.0.0.1:{redis}"]',
        }
        log = stack.enter_context((self.folder / f"{name}.log").open("w"))
        command = [self.tidewire, "serve", "--config", DEPLOY / "compose" / "tidewire.toml"]
        running = child(*command, env=variables, stdout=log, stderr=log)
        self.processes[name] = stack.enter_context(running)

    def ready(self, name):
        return self.operations(name, "/readyz")[0] == 200

    def operations(self, name, path):
        """Status and text of a node's answer to operators; 0 when there is none."""
        try:
            url = f"http://127.0.0.1:{self.ports[name][1]}{path}"
            with urllib.request.urlopen(url, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refusal:
            return refusal.code, refusal.read().decode()
        except OSError:
            return 0, ""

    def token(self, tenant="demo"):
        grant = "**=subscribe,publish,history"
        config = DEPLOY / "compose" / "tidewire.toml"
        command = [self.tidewire, "token", "create", "--tenant", tenant, "--user", "me", "--channel", grant]
        return subprocess.check_output([*command, "--config", config], text=True, env=environment()).strip()

    def remote(self, name=None):
        """How the command line reaches the balancer, or one node."""
        port = self.port if name is None else self.ports[name][0]
        return ["--url", f"ws://127.0.0.1:{port}", "--token", self.token(), "--json"]


@pytest.fixture(scope="module")
def topology(tidewire, tmp_path_factory):
    with Topology(tidewire, tmp_path_factory.mktemp("topology")).running() as running:
        yield running


class Subscriber:
    """`tidewire sub`, whose lines are gathered as they come."""

    def __init__(self, topology, channel, remote):
        command = [topology.tidewire, "sub", channel, "--last", "100", *remote]
        self.process = subprocess.Popen(
            [str(word) for word in command],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment(),
        )
        self.lines = []
        threading.Thread(target=self.gather, daemon=True).start()

    def gather(self):
        for line in self.process.stdout:
            self.lines.append(json.loads(line))

    def heard(self):
        return [line["data"] for line in list(self.lines) if "data" in line]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(timeout=15)


def publish(topology, channel, data, remote):
    return run(topology.tidewire, "pub", channel, json.dumps(data), *remote)


def test_the_probe_of_a_container_says_healthy(topology):
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    _, name, *arguments = compose["services"]["node-a"]["healthcheck"]["test"]
    assert name == "tidewire"

    for node in NODES:
        own = [word.replace(":8001", f":{topology.ports[node][1]}") for word in arguments]
        run(topology.tidewire, *own)


def test_the_test_of_the_chart_says_ready(topology):
    run(topology.tidewire, "health", "--ready", "--url", f"http://127.0.0.1:{topology.ports['node-a'][1]}")


def test_a_publication_crosses_from_node_to_node_and_through_the_balancer(topology):
    with (
        Subscriber(topology, "crossing", topology.remote("node-a")) as one,
        Subscriber(topology, "crossing", topology.remote()) as two,
    ):
        for number in range(5):
            publish(topology, "crossing", number, topology.remote("node-b"))

        until(lambda: one.heard() == two.heard() == [0, 1, 2, 3, 4], "five publications heard twice")


def test_prometheus_finds_nothing_to_criticise_in_the_metrics(topology):
    _, text = topology.operations("node-a", "/metrics")

    done = subprocess.run(
        [program("promtool"), "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )

    ours = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("tidewire_")]
    assert "tidewire_node_state" in text
    assert not ours, "\n".join(ours)


def test_every_metric_that_an_alert_names_is_exposed_before_the_trouble(topology):
    rules = (DEPLOY / "prometheus" / "rules" / "tidewire.yml").read_text()
    expressions = " ".join(
        rule["expr"] for group in yaml.safe_load(rules)["groups"] for rule in group["rules"]
    )
    named = set(re.findall(r"\btidewire_[a-z_]+", expressions))

    _, text = topology.operations("node-a", "/metrics")
    exposed = set(re.findall(r"^(tidewire_[a-z_]+)", text, re.M))

    # Exposed where there is a certificate to expire.
    named.remove("tidewire_tls_certificate_expiry_timestamp_seconds")
    assert len(named) >= 5
    assert named <= exposed, named - exposed


def test_a_container_that_is_stopped_drains_while_the_other_serves(topology):
    # The last case: it takes a node away.
    with Subscriber(topology, "draining", topology.remote()) as subscriber:
        publish(topology, "draining", "before", topology.remote())
        until(lambda: subscriber.heard() == ["before"], "the first publication")

        topology.processes["node-a"].send_signal(signal.SIGTERM)
        until(lambda: topology.operations("node-a", "/readyz")[0] in (503, 0), "readiness failing")
        publish(topology, "draining", "during", topology.remote("node-b"))
        until(lambda: subscriber.heard() == ["before", "during"], "the publication during the drain")
        assert topology.processes["node-a"].wait(timeout=40) == 0
        publish(topology, "draining", "after", topology.remote())

        until(lambda: subscriber.heard() == ["before", "during", "after"], "the publication after the drain")
