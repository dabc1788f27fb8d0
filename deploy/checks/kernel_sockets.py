"""What a connection takes of the kernel: opens many over loopback and looks at what the slabs grew by.

    python3 deploy/checks/kernel_sockets.py [connections]

Prints bytes for each end of a connection, nothing in its buffers, the accepting one watched by epoll.
Needs to read /proc/slabinfo; as many descriptors as it may have bound what it opens.
"""

import resource
import select
import socket
import sys


def slabs():
    """Objects in use and their size, by kind."""
    with open("/proc/slabinfo", encoding="ascii") as lines:
        rows = [line.split() for line in lines if not line.startswith(("slabinfo", "#"))]
    return {row[0]: (int(row[1]), int(row[3])) for row in rows}


def slab_bytes():
    """All slabs, room for objects to come included."""
    with open("/proc/meminfo", encoding="ascii") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Slab:"))


def main():
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 19_000
    count = min(wanted, (descriptors - 100) // 2)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(1_024)
    watched, kept = select.epoll(), []
    before, bytes_before = slabs(), slab_bytes()
    for _ in range(count):
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
        watched.register(server, select.EPOLLIN | select.EPOLLET)
        kept.append((client, server))
    grown = {kind: used - before.get(kind, (0, 0))[0] for kind, (used, _) in slabs().items()}
    ends = 2 * count
    print(f"{count} connections, {(slab_bytes() - bytes_before) / ends:.0f} B of slabs for each end")
    for kind, objects in sorted(grown.items(), key=lambda one: -one[1]):
        if objects > count // 2:
            print(f"{kind:24} {objects / ends:5.2f} of {slabs()[kind][1]} B")


main()
