"""Programs as children: found, started on free ports, waited for, ended by their id."""

import contextlib
import os
import random
import re
import shutil
import socket
import subprocess
import time

import pytest
from conftest import ROOT


def program(name):
    """The path of a program, also of those that Debian keeps out of a user's path."""
    if named := os.environ.get(f"TIDEWIRE_{name.upper().replace('-', '_')}"):
        return named
    path = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    assert path, f"{name} is not installed; deploy/checks/README.md names the packages"
    return path


def environment():
    """Ours without what is meant for the checks: the program refuses variables it does not know."""
    return {name: value for name, value in os.environ.items() if not name.startswith("TIDEWIRE_")}


def run(*command):
    """The output of a program that must succeed."""
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False, env=environment())
    assert done.returncode == 0, f"{command[0]}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


@contextlib.contextmanager
def child(*command, **options):
    """A running program."""
    defaults = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment()}
    process = subprocess.Popen([str(word) for word in command], **{**defaults, **options})
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port():
    """A port that nobody listened on a moment ago, and that no outgoing connection will be given: Linux
    takes those from 32768 on."""
    for _ in range(1_000):
        port = random.randrange(10_000, 32_000)
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
    raise AssertionError("one of 1,000 ports is free")


def accepts(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def until(condition, what, seconds=15):
    """Waits for a condition, and fails with what was waited for."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.05)
    pytest.fail(f"{what} did not happen in {seconds} s")


def balancer_configuration(nodes, port, ops_port, weights=None):
    """Our haproxy.cfg for ports of this machine.

    `nodes`: name to (client port, operations port). `weights`: name to weight, where it is not 100.
    """
    text = (ROOT / "deploy" / "haproxy" / "haproxy.cfg").read_text()
    weights = weights or {}
    checked = [
        f"    server {name} 127.0.0.1:{client} port {ops} weight {weights.get(name, 100)}\n"
        for name, (client, ops) in nodes.items()
    ]
    unchecked = [
        f"    server {name} 127.0.0.1:{client} track by_tenant/{name}\n" for name, (client, _) in nodes.items()
    ]
    text, count = re.subn(r"(    server \S+ \S+:8000 weight 100\n)+", "".join(checked), text)
    assert count == 1, "one list of servers that are checked"
    text, count = re.subn(r"(    server \S+ \S+:8000 track \S+\n)+", "".join(unchecked), text)
    assert count == 1, "one list of servers that are not"
    text = text.replace("bind :8000", f"bind 127.0.0.1:{port}").replace(
        "bind :8404", f"bind 127.0.0.1:{ops_port}"
    )
    # The most a machine's descriptors allow is not what is tested here.
    return re.sub(r"maxconn \d+", "maxconn 200", text)
