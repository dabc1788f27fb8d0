"""Balancers send each tenant to its homes, as the nodes compute them: the real HAProxy, and nginx."""

import contextlib
import itertools
import json
import re

import pytest
from balancer import (
    FakeNode,
    balancing,
    balancing_with_nginx,
    installed,
    nginx_files,
    resident_kib,
)
from conftest import ROOT
from processes import run, until

TENANTS = [f"tenant-{number}" for number in range(500)]
EVEN = dict.fromkeys([f"node-{number}" for number in range(5)], 100)
MIXED = dict(zip(EVEN, [50, 100, 200, 100, 50], strict=True))

UPGRADE = (
    "GET /v1/{tenant}/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@contextlib.contextmanager
def fake_nodes(names):
    nodes = {name: FakeNode(name) for name in names}
    try:
        yield nodes
    finally:
        for node in nodes.values():
            node.end()


@pytest.fixture
def homes_of(tidewire):
    """Where tenants belong, as the nodes' own code has it: by tenant, best first."""

    def ask(tenants, weights, count):
        slots = ",".join(f"{slot}={weight}" for slot, weight in weights.items())
        command = [tidewire, "placement", *tenants, "--slots", slots, "--homes", count, "--json"]
        lines = map(json.loads, run(*command).splitlines())
        return {line["tenant"]: [home["slot"] for home in line["homes"]] for line in lines}

    return ask


def disagreements(placed, homes):
    return {tenant: (node, homes[tenant]) for tenant, node in placed.items() if node not in homes[tenant]}


def without(weights, *gone):
    return {slot: weight for slot, weight in weights.items() if slot not in gone}


@pytest.mark.parametrize("weights", [EVEN, MIXED], ids=["even", "mixed"])
def test_every_tenant_goes_to_one_of_its_homes_whichever_nodes_take_clients(tmp_path, homes_of, weights):
    shares = {1: TENANTS[:170], 2: TENANTS[170:340], 3: TENANTS[340:]}
    homes = {tenant: count for count in (1, 3) for tenant in shares[count]}
    with fake_nodes(weights) as nodes, balancing(tmp_path, nodes, weights, homes) as balancer:

        def agree(usable):
            placed = balancer.placement(TENANTS)
            for count, tenants in shares.items():
                wanted = homes_of(tenants, usable, count)
                assert not disagreements({tenant: placed[tenant] for tenant in tenants}, wanted)
            assert set(placed.values()) == set(usable), "everybody has some"

        agree(weights)
        balancer.set_ready("node-1", False)
        agree(without(weights, "node-1"))
        balancer.set_ready("node-3", False)
        agree(without(weights, "node-1", "node-3"))
        balancer.set_ready("node-1", True)
        balancer.set_ready("node-3", True)
        agree(weights)


def test_a_tenant_with_one_home_goes_down_its_ranking_as_nodes_go(tmp_path, homes_of):
    tenants = TENANTS[:40]
    order = homes_of(tenants, MIXED, 5)
    homes = dict.fromkeys(tenants, 1)
    usable = list(MIXED)
    with fake_nodes(MIXED) as nodes, balancing(tmp_path, nodes, MIXED, homes) as balancer:
        while True:
            expected = {tenant: next(slot for slot in order[tenant] if slot in usable) for tenant in tenants}
            assert balancer.placement(tenants) == expected
            if len(usable) == 1:
                break
            balancer.set_ready(usable.pop(0), False)


def test_a_tenant_with_more_homes_than_are_remembered_still_finds_those_that_are_up(tmp_path, homes_of):
    # Beyond its homes four servers are remembered for a tenant; here more of its best are down.
    weights = dict.fromkeys([f"n{number}" for number in range(8)], 100)
    tenant = TENANTS[0]
    order = homes_of([tenant], weights, 8)[tenant]
    with fake_nodes(weights) as nodes:
        for slot in order[:6]:
            nodes[slot].ready = False
        with balancing(tmp_path, nodes, weights, {tenant: 1}) as balancer:
            assert {balancer.ask(f"/v1/{tenant}/ws") for _ in range(8)} == {order[6]}


def test_of_its_homes_a_tenant_takes_the_one_with_the_fewest_connections_for_its_weight(tmp_path, homes_of):
    weights = {"node-0": 100, "node-1": 200, "node-2": 100}
    tenant = next(t for t, homes in homes_of(TENANTS, weights, 2).items() if homes == ["node-1", "node-0"])
    with (
        fake_nodes(weights) as nodes,
        balancing(tmp_path, nodes, weights) as balancer,
        contextlib.ExitStack() as open_ones,
    ):
        for _ in range(30):
            client = open_ones.enter_context(balancer.dial())
            client.sendall(UPGRADE.format(tenant=tenant).encode())
            assert client.recv(4096).startswith(b"HTTP/1.1 101")

        counts = {name: node.tunnels for name, node in nodes.items()}

    assert counts == {"node-0": 10, "node-1": 20, "node-2": 0}


def test_path_header_and_parameter_name_the_same_tenant_and_the_same_home(tmp_path, homes_of):
    tenants = TENANTS[:30]
    expected = homes_of(tenants, EVEN, 1)
    homes = dict.fromkeys(tenants, 1)
    with fake_nodes(EVEN) as nodes, balancing(tmp_path, nodes, EVEN, homes) as balancer:
        for tenant, [home] in expected.items():
            assert balancer.ask(f"/v1/{tenant}/channels/a/publications") == home
            assert balancer.ask("/v1/ws", {"x-tidewire-tenant": tenant}) == home
            assert balancer.ask(f"/v1/ws?tenant={tenant}") == home


def test_what_clients_call_their_tenants_does_not_fill_the_balancer(tmp_path):
    names = (f"t{number}" for number in itertools.count())
    with fake_nodes(EVEN) as nodes, balancing(tmp_path, nodes, EVEN) as balancer:
        # More than two threads remember.
        balancer.count_off(names, 40_000)
        full = resident_kib(balancer.pid)

        balancer.count_off(names, 80_000)

        assert resident_kib(balancer.pid) < full + 8_192


@pytest.mark.parametrize("name", ["No-Tenant", "x" * 33, "%41", "a.b"])
def test_what_is_no_tenants_name_is_served_all_the_same(tmp_path, name):
    with fake_nodes(EVEN) as nodes, balancing(tmp_path, nodes, EVEN) as balancer:
        served_by = {balancer.ask(f"/v1/{name}/ws") for _ in range(6)}

        assert len(served_by) == 1 and served_by <= set(EVEN)


def test_when_placing_fails_the_hash_of_the_backend_serves(tmp_path):
    breakage = lambda text: text.replace("local function least_busy(", "local function lost(")  # noqa: E731
    with fake_nodes(EVEN) as nodes, balancing(tmp_path, nodes, EVEN, change=breakage) as balancer:
        first = balancer.placement(TENANTS[:60])

        assert set(first.values()) == set(EVEN)
        assert balancer.placement(TENANTS[:60]) == first
    assert "cannot place a tenant" in (tmp_path / "haproxy.log").read_text()


@pytest.mark.parametrize(
    ("rule", "instead"),
    [
        ("hash >> 11", "hash >> 12"),
        ('.. "\\0" ..', ".."),
        ("-server.weight / math.log(u)", "server.weight * u"),
        ("scores[left] > scores[right]", "scores[left] < scores[right]"),
        ("#homes == k", "#homes == k + 1"),
    ],
)
def test_a_balancer_that_computes_something_else_is_found_out(tmp_path, homes_of, rule, instead):
    def breakage(text):
        assert rule in text
        return text.replace(rule, instead)

    homes = dict.fromkeys(TENANTS, 1)
    wanted = homes_of(TENANTS, MIXED, 1)
    with (
        fake_nodes(MIXED) as nodes,
        balancing(tmp_path, nodes, MIXED, homes, change=breakage) as balancer,
    ):
        assert disagreements(balancer.placement(TENANTS), wanted)


# nginx


def homes_conf(homes, nodes):
    """What a node writes for nginx, with addresses of this machine for its slots."""
    groups = {}
    lines = ["map $tidewire_tenant $tidewire_home {", "    default tidewire_any;"]
    for tenant, slots in homes.items():
        group = groups.setdefault(tuple(sorted(slots)), len(groups))
        lines.append(f"    {tenant} tidewire_{group};")
    lines.append("}")
    for slots, group in groups.items():
        servers = [f"    server 127.0.0.1:{nodes[slot].port};" for slot in slots]
        lines += [f"upstream tidewire_{group} {{", "    least_conn;", *servers, "}"]
    return "\n".join(lines) + "\n"


def test_nginx_sends_the_tenants_it_was_told_of_to_their_homes_and_the_others_somewhere(tmp_path, homes_of):
    known, unknown = TENANTS[:150], TENANTS[150:200]
    homes = homes_of(known, EVEN, 2)
    with fake_nodes(EVEN) as nodes:
        text = homes_conf(homes, nodes)
        assert nginx_files(tmp_path, nodes, 1, text).read_text().count("127.0.0.1:") == len(EVEN) + 1
        # The rest takes an nginx, which a machine may do without.
        if not (nginx := installed("nginx")):
            return
        run(nginx, "-t", "-c", tmp_path / "nginx.conf", "-p", tmp_path)
        with balancing_with_nginx(nginx, tmp_path, nodes, text) as balancer:
            assert not disagreements(balancer.placement(known), homes)
            somewhere = balancer.placement(unknown)
            assert somewhere == balancer.placement(unknown)
            assert set(somewhere.values()) == set(EVEN)
            assert {balancer.ask("/v1/ws") for _ in range(40)} == set(EVEN)
            for tenant in known[:10]:
                assert balancer.ask("/v1/ws", {"x-tidewire-tenant": tenant}) in homes[tenant]
                assert balancer.ask(f"/v1/ws?tenant={tenant}") in homes[tenant]
            with balancer.dial() as client:
                client.sendall(UPGRADE.format(tenant=known[0]).encode())
                assert client.recv(4096).startswith(b"HTTP/1.1 101")
                client.sendall(b"hello\n")
                assert client.recv(4096) == b"hello\n"
            first, second = homes[known[0]]
            nodes[first].end()
            assert {balancer.ask(f"/v1/{known[0]}/ws") for _ in range(4)} == {second}
            nodes[second].end()
            assert balancer.ask(f"/v1/{known[0]}/ws") in without(EVEN, first, second)


def test_nginx_starts_without_having_been_told_of_a_tenant(tmp_path):
    text = (ROOT / "deploy" / "nginx" / "homes.conf").read_text()
    assert re.findall(r"^    (\S+) (\S+);$", text, re.M) == [("default", "tidewire_any")]
    if nginx := installed("nginx"):
        with fake_nodes(EVEN) as nodes:
            run(nginx, "-t", "-c", nginx_files(tmp_path, nodes, 1, text), "-p", tmp_path)
