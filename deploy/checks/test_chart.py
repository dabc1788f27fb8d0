"""The chart, rendered by Helm's own engine and validated against Kubernetes' schemas."""

import base64
import http.server
import json
import re
import subprocess
import threading
import tomllib

import chart_readme
import kubernetes_validate
import pytest
import yaml
from conftest import CHART, CI_VALUES, only, render, values_of
from helm_python.chart import Chart, lint
from helm_python.config import Config
from helm_python.errors import HelmError

WORKLOADS = ("Deployment", "StatefulSet", "Pod")
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def pod_spec(workload):
    return workload["spec"] if workload["kind"] == "Pod" else workload["spec"]["template"]["spec"]


def pod_labels(workload):
    template = workload if workload["kind"] == "Pod" else workload["spec"]["template"]
    return template["metadata"]["labels"]


def workloads(manifests):
    return [m for m in manifests if m["kind"] in WORKLOADS]


def refused(values):
    """What the chart says when it refuses values."""
    with pytest.raises(HelmError) as refusal:
        render(values)
    return str(refusal.value)


# Examples


@pytest.mark.parametrize("path", [None, *CI_VALUES], ids=lambda p: p.stem if p else "defaults")
def test_lint_finds_nothing(path):
    report = lint(CHART, values_of(path) if path else {}, strict=True, kube_version="v1.30.0")

    serious = [m for m in report["messages"] if m["severity"] > 1]
    assert not serious and not report["errors"]


@pytest.mark.parametrize("version", ["1.30", "1.37"])
def test_every_manifest_fits_the_schemas_of_kubernetes(example, version):
    _, manifests = example

    built_in = [m for m in manifests if "monitoring.coreos.com" not in m["apiVersion"]]
    assert len(built_in) >= 6
    for manifest in built_in:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_every_container_is_restricted_and_bounded(example):
    _, manifests = example

    for workload in workloads(manifests):
        spec = pod_spec(workload)
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        for container in [*spec["containers"], *spec.get("initContainers", [])]:
            assert container["securityContext"] == RESTRICTED
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
            assert "memory" in container["resources"]["limits"]


def test_every_image_is_pinned(example):
    _, manifests = example

    for workload in workloads(manifests):
        for container in pod_spec(workload)["containers"]:
            pinned = re.search(r"(:(?!latest$)[^:@/]+|@sha256:[0-9a-f]{64})$", container["image"])
            assert pinned, container["image"]


def test_every_selector_finds_the_pods_it_means_and_no_others(example):
    _, manifests = example
    pods = {w["metadata"]["name"]: pod_labels(w) for w in workloads(manifests)}

    def selected(selector):
        return [name for name, labels in pods.items() if selector.items() <= labels.items()]

    for manifest in manifests:
        name, spec = manifest["metadata"]["name"], manifest.get("spec", {})
        if manifest["kind"] in ("Deployment", "StatefulSet"):
            assert selected(spec["selector"]["matchLabels"]) == [name]
        elif manifest["kind"] == "Service":
            assert selected(spec["selector"]) == [name.removesuffix("-ops")]
        elif manifest["kind"] == "PodDisruptionBudget":
            assert selected(spec["selector"]["matchLabels"]) == [name]
        elif manifest["kind"] == "NetworkPolicy":
            assert selected(spec["podSelector"]["matchLabels"]) == [name]


def test_every_named_port_exists_on_the_pods_behind_it(example):
    _, manifests = example
    by_component = {
        pod_labels(w)["app.kubernetes.io/component"]: w for w in workloads(manifests) if w["kind"] != "Pod"
    }

    for service in (m for m in manifests if m["kind"] == "Service"):
        behind = by_component[service["spec"]["selector"]["app.kubernetes.io/component"]]
        names = {p["name"] for p in pod_spec(behind)["containers"][0]["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= names


def test_everything_a_pod_mounts_exists(example):
    values, manifests = example
    existing = values.get("secrets", {}).get("existingSecret")

    for workload in workloads(manifests):
        for volume in pod_spec(workload).get("volumes", []):
            if "configMap" in volume:
                assert any(
                    m["kind"] == "ConfigMap" and m["metadata"]["name"] == volume["configMap"]["name"]
                    for m in manifests
                )
            if volume["name"] == "tls":
                assert volume["secret"]["secretName"] == values["tls"]["existingSecret"]
            elif "secret" in volume:
                assert existing == volume["secret"]["secretName"] or any(
                    m["kind"] == "Secret" and m["metadata"]["name"] == volume["secret"]["secretName"]
                    for m in manifests
                )


def test_every_secret_file_the_configuration_names_is_in_the_secret(example):
    values, manifests = example
    if values.get("secrets", {}).get("existingSecret"):
        assert not [m for m in manifests if m["kind"] == "Secret"]
        return
    toml = only(manifests, "ConfigMap")["data"]["tidewire.toml"]

    named = set(re.findall(r'"/etc/tidewire/secrets/([^"]+)"', toml))

    assert named == only(manifests, "Secret")["stringData"].keys()


def test_no_secret_is_in_a_config_map(example):
    _, manifests = example
    secrets = [m["stringData"].values() for m in manifests if m["kind"] == "Secret"]
    texts = [text for m in manifests if m["kind"] == "ConfigMap" for text in m["data"].values()]

    for secret in (secret for entries in secrets for secret in entries):
        assert not any(secret in text for text in texts)


# Configuration


def test_numbers_stay_integers_and_text_is_quoted():
    config = {
        "history": {"size": 5000, "ttl": "1h"},
        "server": {"max_connections": 2000000, "allowed_origins": ['https://a"b\\c', "ü<&>"]},
        "drain": {"deadline": "2m", "rate": 1000},
    }

    toml = tomllib.loads(only(render({"config": config}), "ConfigMap")["data"]["tidewire.toml"])

    assert toml["history"] == {"size": 5000, "ttl": "1h"}
    assert type(toml["history"]["size"]) is int
    assert toml["server"]["max_connections"] == 2000000
    assert toml["server"]["allowed_origins"] == ['https://a"b\\c', "ü<&>"]
    assert toml["server"]["listen"] == "0.0.0.0:8000"


def test_tenants_keep_their_keys_and_rights():
    values = values_of(CHART / "ci" / "production-values.yaml")

    toml = tomllib.loads(only(render(values), "ConfigMap")["data"]["tidewire.toml"])

    (acme,) = toml["tenants"]
    assert [key["algorithm"] for key in acme["keys"]] == ["EdDSA", "HS256"]
    assert acme["keys"][0]["public_key"].startswith("-----BEGIN PUBLIC KEY-----\n")
    assert "secret_file" not in acme["keys"][0]
    assert acme["api_keys"][1]["channels"] == {"jobs/**": ["publish"], "alerts": ["publish", "history"]}
    room = {"pattern": "room/**", "presence": "members", "presence_debounce": "10s", "presence_listed": 200}
    assert acme["rules"] == [{"pattern": "ticker/**", "flush_window": "10ms"}, room]
    assert toml["redis"]["mode"] == "sentinel" and toml["redis"]["master_name"] == "tidewire"


@pytest.mark.parametrize(
    ("section", "key", "use"),
    [
        ("server", "listen", "service.port"),
        ("session", "resume_keys", "secrets.resumeKeys"),
        ("registry", "keys", "registry.enabled and secrets.registryKeys"),
        ("nats", "password", "nats.external.password"),
        ("redis", "addresses", "redis.external.addresses"),
    ],
)
def test_a_key_the_chart_sets_itself_is_refused_with_the_value_to_use(section, key, use):
    message = refused({"config": {section: {key: "x"}}})

    assert f"config.{section}.{key} is set by the chart: use {use}" in message


def test_a_changed_configuration_or_secret_rolls_the_pods_and_nothing_else_does():
    def checksums(values):
        deployment = only(render(values), "Deployment")
        return deployment["spec"]["template"]["metadata"]["annotations"]

    assert checksums({}) == checksums({"replicaCount": 5})
    assert checksums({}) != checksums({"config": {"log": {"level": "debug"}}})
    assert checksums({}) != checksums({"secrets": {"resumeKeys": ["k" * 32]}})


def test_a_certificate_is_mounted_so_that_it_can_change_and_the_node_is_told_where():
    manifests = render({"tls": {"existingSecret": "mine"}})

    toml = tomllib.loads(only(manifests, "ConfigMap")["data"]["tidewire.toml"])
    spec = pod_spec(only(manifests, "Deployment"))
    [volume] = [v for v in spec["volumes"] if v["name"] == "tls"]
    [mount] = [m for m in spec["containers"][0]["volumeMounts"] if m["name"] == "tls"]
    assert volume["secret"]["secretName"] == "mine"
    assert "subPath" not in mount and mount["readOnly"] is True
    assert toml["tls"] == {
        "certificate_file": f"{mount['mountPath']}/tls.crt",
        "key_file": f"{mount['mountPath']}/tls.key",
    }


def test_without_a_certificate_nothing_is_said_of_tls():
    manifests = render()

    assert "tls" not in tomllib.loads(only(manifests, "ConfigMap")["data"]["tidewire.toml"])


# Secrets


def test_secrets_that_nobody_gave_are_generated_long_and_different():
    first, second = (only(render(), "Secret")["stringData"] for _ in range(2))

    assert first.keys() == {"resume-keys", "tenant.demo.key.main", "tenant.demo.api-key.backend"}
    assert all(len(secret) == 48 for secret in first.values())
    assert len({*first.values(), *second.values()}) == 6


class FakeCluster(http.server.ThreadingHTTPServer):
    """As much of a Kubernetes API as a chart's `lookup` of a Secret asks for."""

    daemon_threads = True

    def __init__(self, secret):
        encoded = {name: base64.b64encode(text.encode()).decode() for name, text in secret.items()}
        resource = {"name": "secrets", "kind": "Secret", "namespaced": True, "verbs": ["get"]}
        self.answers = {
            "/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": [resource]},
            "/api/v1/namespaces/edge/secrets/demo-tidewire": {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "demo-tidewire", "namespace": "edge"},
                "data": encoded,
            },
        }
        super().__init__(("127.0.0.1", 0), FakeClusterRequest)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def kubeconfig(self):
        cluster = {"server": f"http://127.0.0.1:{self.server_address[1]}"}
        return json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "fake", "cluster": cluster}],
                "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": ""}}],
                "current-context": "fake",
            }
        )


class FakeClusterRequest(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        answer = self.server.answers.get(self.path.split("?")[0])
        self.send_response(200 if answer else 404)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(answer or {"kind": "Status", "code": 404}).encode())

    def log_message(self, *_):
        pass


def test_a_generated_secret_survives_an_upgrade_and_a_new_one_joins_it():
    installed = {"resume-keys": "r" * 48, "tenant.demo.key.main": "k" * 48, "left-over": "x"}
    cluster = FakeCluster(installed)

    with (
        Chart.load(CHART) as chart,
        Config(kubeconfig_content=cluster.kubeconfig(), namespace="edge") as config,
    ):
        templates = config.render(chart, {}, name="demo", namespace="edge", is_upgrade=True)
    cluster.shutdown()
    cluster.server_close()

    entries = yaml.safe_load(templates["tidewire/templates/secret.yaml"])["stringData"]
    assert entries["resume-keys"] == "r" * 48
    assert entries["tenant.demo.key.main"] == "k" * 48
    assert len(entries["tenant.demo.api-key.backend"]) == 48
    assert "left-over" not in entries


def test_secrets_that_values_give_are_used():
    values = values_of(CHART / "ci" / "external-passwords-values.yaml")

    entries = only(render(values), "Secret")["stringData"]

    assert entries["nats-password"] == "an-example-password"
    assert entries["redis-password"] == "another-example-password"
    assert entries["resume-keys"].splitlines() == values["secrets"]["resumeKeys"]


def test_a_registry_has_keys_of_its_own_and_only_if_it_is_wanted():
    manifests = render({"registry": {"enabled": True}})

    toml = tomllib.loads(only(manifests, "ConfigMap")["data"]["tidewire.toml"])
    assert toml["registry"] == {"keys_file": "/etc/tidewire/secrets/registry-keys"}
    assert len(only(manifests, "Secret")["stringData"]["registry-keys"]) == 48
    assert "registry" not in tomllib.loads(only(render(), "ConfigMap")["data"]["tidewire.toml"])


def test_an_existing_secret_replaces_the_charts():
    manifests = render({"secrets": {"existingSecret": "mine"}})

    volumes = pod_spec(only(manifests, "Deployment"))["volumes"]
    assert not [m for m in manifests if m["kind"] == "Secret"]
    assert [v["secret"]["secretName"] for v in volumes if "secret" in v] == ["mine"]


def test_a_secret_given_twice_is_refused():
    message = refused({"secrets": {"existingSecret": "mine", "resumeKeys": ["k" * 32]}})

    assert "resume-keys is given in values although secrets.existingSecret is set" in message


def test_a_login_without_a_password_is_refused():
    external = {"servers": ["nats://n:4222"], "auth": "token"}

    message = refused({"nats": {"bundled": {"enabled": False}, "external": external}})

    assert "the secret nats-token is needed to log in" in message


@pytest.mark.parametrize("service", ["nats", "redis"])
def test_switching_a_bundled_server_off_needs_an_address(service):
    message = refused({service: {"bundled": {"enabled": False}}})

    assert f"is needed when {service}.bundled.enabled is false" in message


# Drain


@pytest.mark.parametrize(
    ("deadline", "margin", "expected"),
    [("2m", 30, 150), ("90s", 5, 95), ("120s", 10, 130), ("1500ms", 30, 32), ("1h", 30, 3630)],
)
def test_the_grace_period_follows_from_the_drain(deadline, margin, expected):
    values = {"config": {"drain": {"deadline": deadline}}, "drain": {"marginSeconds": margin}}

    spec = pod_spec(only(render(values), "Deployment"))

    assert spec["terminationGracePeriodSeconds"] == expected


def test_a_pod_begins_to_drain_before_it_is_told_to_stop_and_is_not_ready_then(tidewire):
    (node,) = pod_spec(only(render({}), "Deployment"))["containers"]

    command = node["lifecycle"]["preStop"]["exec"]["command"]
    assert command == ["tidewire", "drain", "--wait-announced"]
    # What the command does without an address, in the program and in its help.
    assert {"name": "ops", "containerPort": 8001} in node["ports"]
    shown = subprocess.run([tidewire, *command[1:], "--help"], capture_output=True, text=True, check=True)
    assert "[default: http://127.0.0.1:8001]" in shown.stdout
    assert node["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "ops"}
    assert node["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "ops"}


def test_an_eighth_of_the_nodes_leaves_at_a_time():
    strategy = only(render({}), "Deployment")["spec"]["strategy"]["rollingUpdate"]

    # Kubernetes rounds it up.
    assert strategy == {"maxSurge": "12%", "maxUnavailable": 0}


def test_a_grace_period_that_would_cut_a_drain_short_is_refused():
    message = refused({"drain": {"terminationGracePeriodSeconds": 149}})

    assert "is 149, but a drain may take 150 seconds" in message


def test_a_longer_grace_period_is_taken():
    spec = pod_spec(only(render({"drain": {"terminationGracePeriodSeconds": 150}}), "Deployment"))

    assert spec["terminationGracePeriodSeconds"] == 150


def test_a_deadline_that_is_no_duration_is_refused():
    message = refused({"config": {"drain": {"deadline": "1m30s"}}})

    assert "is not a duration such as 90s or 2m" in message


def test_one_node_has_no_disruption_budget_and_two_have():
    assert not [m for m in render({"replicaCount": 1}) if m["kind"] == "PodDisruptionBudget"]
    assert only(render({"replicaCount": 2}), "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


# Monitoring


def test_a_monitor_is_made_only_on_request():
    assert not [m for m in render() if m["kind"] == "ServiceMonitor"]


def test_a_monitor_selects_the_service_of_operations_and_a_port_of_it():
    values = {"metrics": {"serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}}}}
    manifests = render(values)

    monitor = only(manifests, "ServiceMonitor")

    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    found = [m for m in manifests if m["kind"] == "Service" and wanted <= m["metadata"]["labels"].items()]
    (endpoint,) = monitor["spec"]["endpoints"]
    assert [m["metadata"]["name"] for m in found] == ["demo-tidewire-ops"]
    assert endpoint["port"] in [port["name"] for port in found[0]["spec"]["ports"]]
    assert endpoint["path"] == "/metrics"
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    assert monitor["metadata"]["labels"]["release"] == "prometheus"


# Schema of values


@pytest.mark.parametrize(
    "values",
    [
        {"replicas": 3},
        {"replicaCount": "3"},
        {"replicaCount": 0},
        {"image": {"tag": "latest"}},
        {"image": {"digest": "sha256:abc"}},
        {"config": {"servers": {"listen": "x"}}},
        {"config": {"server": {"limits": {"nested": 1}}}},
        {"tenants": []},
        {"tenants": [{"name": "Upper", "keys": [{"id": "a", "algorithm": "HS256"}]}]},
        {"tenants": [{"name": "a", "keys": [{"id": "a", "algorithm": "none"}]}]},
        {"tenants": [{"name": "a", "keys": [{"id": "a", "algorithm": "EdDSA"}]}]},
        {"tenants": [{"name": "a", "keys": [{"id": "a", "algorithm": "HS256", "secret": "short"}]}]},
        {"tenants": [{"name": "a", "keys": [{"id": "a/b", "algorithm": "HS256"}]}]},
        {"tenants": [{"name": "a", "keys": [{"id": "a", "algorithm": "HS256"}], "apiKeys": [{"id": "a.b"}]}]},
        {"secrets": {"resumeKeys": ["short"]}},
        {"nats": {"external": {"servers": ["nats://user:password@host:4222"]}}},
        {"nats": {"bundled": {"image": "nats:latest"}}},
        {"redis": {"external": {"mode": "ring"}}},
        {"resources": {}, "drain": {"marginSeconds": 0}},
        {"metrics": {"serviceMonitor": {"interval": "often"}}},
        {"service": {"port": 70000}},
    ],
    ids=str,
)
def test_values_with_a_mistake_are_refused(values):
    with Chart.load(CHART) as chart, pytest.raises(HelmError):
        chart.validate_schema(chart.merge_values(values))


def test_the_schema_knows_every_default():
    def unknown(values, schema, path=""):
        for key, value in values.items():
            properties = schema.get("properties", {})
            if (
                key not in properties
                and "properties" in schema
                and schema.get("additionalProperties") is False
            ):
                yield f"{path}{key}"
            elif isinstance(value, dict):
                yield from unknown(value, properties.get(key, {}), f"{path}{key}.")

    with Chart.load(CHART) as chart:
        assert not list(unknown(chart.values, chart.schema))


# Words


def test_the_readme_lists_every_value():
    assert (CHART / "README.md").read_text() == chart_readme.readme(), "run deploy/checks/chart_readme.py"


def test_every_value_is_described():
    described = {path for path, _, _ in chart_readme.rows((CHART / "values.yaml").read_text())}

    def leaves(values, path=()):
        for key, value in values.items():
            here = (*path, key)
            if ".".join(here) in described:
                continue
            if isinstance(value, dict) and value:
                yield from leaves(value, here)
            else:
                yield ".".join(here)

    with Chart.load(CHART) as chart:
        assert not list(leaves(chart.values))


def test_the_notes_name_the_services_and_secrets_that_exist():
    with Chart.load(CHART) as chart:
        notes = next(
            text for path, text in chart.render({}, name="demo").items() if path.endswith("NOTES.txt")
        )

    assert "port-forward service/demo-tidewire 8000:8000" in notes
    assert "get secret demo-tidewire" in notes
    assert 'index .data "tenant.demo.key.main"' in notes
