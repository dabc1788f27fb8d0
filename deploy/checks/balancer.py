"""A balancer with our configuration, in front of nodes that are none."""

import concurrent.futures
import contextlib
import http.client
import http.server
import itertools
import re
import shutil
import socket
import threading
import urllib.error
import urllib.request

from conftest import ROOT
from processes import accepts, balancer_configuration, child, free_port, program, until

HAPROXY = ROOT / "deploy" / "haproxy"


class FakeNode(http.server.ThreadingHTTPServer):
    """Answers every request with its own name, and readiness as told."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, name):
        self.name, self.ready, self.tunnels = name, True, 0
        super().__init__(("127.0.0.1", 0), FakeNodeRequest)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def port(self):
        return self.server_address[1]

    def handle_error(self, *_):
        """Whoever asks may go before it has its answer: that is nothing to be told of."""

    def end(self):
        self.shutdown()
        self.server_close()


class FakeNodeRequest(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.headers.get("Upgrade"):
            return self.echo()
        body = self.server.name.encode()
        self.send_response(503 if self.path == "/readyz" and not self.server.ready else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        return None

    def echo(self):
        """A tunnel that gives back every line."""
        self.server.tunnels += 1
        self.send_response(101)
        self.send_header("Connection", "Upgrade")
        self.send_header("Upgrade", "websocket")
        # The answer to the key of RFC 6455 section 1.3, which the client sends.
        self.send_header("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        self.end_headers()
        while line := self.rfile.readline():
            self.wfile.write(line)
        self.close_connection = True

    def log_message(self, *_):
        pass


class Balancer:
    """HAProxy with our configuration in front of fake nodes."""

    def __init__(self, port, nodes):
        self.port, self.nodes, self.pid = port, nodes, None

    def ask(self, path, headers=None):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers=headers or {})
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.read().decode()
        except urllib.error.HTTPError as refusal:
            return str(refusal.code)

    def placement(self, tenants):
        """Where each of them goes, asked on a few connections that stay open."""
        shares = [tenants[index::WAYS] for index in range(WAYS)]
        with concurrent.futures.ThreadPoolExecutor(WAYS) as ways:
            return {tenant: node for share in ways.map(self.ask_all, shares) for tenant, node in share}

    def ask_all(self, tenants):
        placed = []
        way = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        for tenant in tenants:
            way.request("GET", f"/v1/{tenant}/ws")
            placed.append((tenant, way.getresponse().read().decode()))
        way.close()
        return placed

    def dial(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=5)

    def count_off(self, tenants, count):
        """Has so many tenants placed, whose requests the balancer answers itself, on a few connections."""
        with contextlib.ExitStack() as open_ones:
            ways = [open_ones.enter_context(self.dial()) for _ in range(WAYS)]
            for way in itertools.islice(itertools.cycle(ways), count // BURST):
                paths = (f"/v1/{tenant}/placed" for tenant in itertools.islice(tenants, BURST))
                way.sendall("".join(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n" for path in paths).encode())
                answers = b""
                while answers.count(b"HTTP/1.1 204") < BURST:
                    answers += way.recv(65_536)

    def set_ready(self, name, ready):
        """Tells a node to be ready or not, and waits until the balancer heeds it."""
        self.nodes[name].ready = ready
        until(lambda: (name in {self.ask("/v1/ws") for _ in range(12)}) == ready, f"{name} {ready=}")


WAYS = 4
BURST = 100


def lay_out(folder, text, homes=None):
    """Puts a configuration beside copies of the files it names. Yields where it is."""
    text = text.replace("/usr/local/etc/haproxy/", f"{folder}/")
    # For whoever wants nothing but the balancer's own work.
    answer = "http-request return status 204 if { path_end /placed }"
    text = text.replace("    use_backend by_tenant", f"    {answer}\n    use_backend by_tenant")
    (folder / "haproxy.cfg").write_text(text)
    shutil.copy(HAPROXY / "placement.lua", folder)
    lines = "".join(f"{tenant} {count}\n" for tenant, count in (homes or {}).items())
    (folder / "homes.map").write_text((HAPROXY / "homes.map").read_text() + lines)
    return folder / "haproxy.cfg"


@contextlib.contextmanager
def balancing(folder, nodes, weights=None, homes=None, change=None):
    """A running balancer. `change` is done to its Lua first."""
    port = free_port()
    ports = {name: (node.port, node.port) for name, node in nodes.items()}
    file = lay_out(folder, balancer_configuration(ports, port, free_port(), weights), homes)
    if change:
        script = folder / "placement.lua"
        script.write_text(change(script.read_text()))
    subject = Balancer(port, nodes)
    with (folder / "haproxy.log").open("w") as log:
        with child(program("haproxy"), "-db", "-f", file, stdout=log, stderr=log) as process:
            subject.pid = process.pid
            until(lambda: accepts(port), "haproxy listening")
            everybody = {name for name, node in nodes.items() if node.ready}
            until(lambda: {subject.ask("/v1/ws") for _ in range(12)} == everybody, "all nodes in use")
            yield subject


def installed(name):
    """The path of a program that a machine may do without."""
    with contextlib.suppress(AssertionError):
        return program(name)
    return None


def nginx_files(folder, nodes, port, homes_conf):
    """Our configuration of nginx for these nodes, beside its homes.conf. Yields where it is."""
    text = (ROOT / "deploy" / "nginx" / "nginx.conf").read_text()
    servers = "".join(f"        server 127.0.0.1:{node.port};\n" for node in nodes.values())
    text, count = re.subn(r"(        server node-\S+:8000 .*;\n)+", servers, text)
    assert count == 1, "one list of servers"
    text = text.replace("listen 8000", f"listen 127.0.0.1:{port}").replace("200000", "1024")
    text = text.replace("worker_connections 100000", "worker_connections 256")
    logs = f"pid {folder}/pid; error_log {folder}/error.log; daemon off;\n"
    places = "".join(
        f"    {kind}_temp_path {folder}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    text = logs + text.replace("http {\n", f"http {{\n    access_log off;\n{places}")
    (folder / "nginx.conf").write_text(text)
    (folder / "homes.conf").write_text(homes_conf)
    return folder / "nginx.conf"


@contextlib.contextmanager
def balancing_with_nginx(nginx, folder, nodes, homes_conf):
    port = free_port()
    file = nginx_files(folder, nodes, port, homes_conf)
    with child(nginx, "-c", file, "-p", folder):
        until(lambda: accepts(port), "nginx listening")
        yield Balancer(port, nodes)


def resident_kib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return int(re.search(r"VmRSS:\s+(\d+)", status.read())[1])
