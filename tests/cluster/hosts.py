"""Hosts of a cluster as network namespaces of this machine: each with an address, a name and a cable of its own, which can be pulled.

They share files, as machines with a common disk do: what they say to one another goes over the cables, and a pulled one loses it without a
word, where a killed process at least closes its connections. It takes root.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.cluster import Host

NETWORK = "10.213.7"
CARD = "eth0"
_SWITCH = "switch"
_BRIDGE = "br0"


def can_make_hosts() -> bool:
    """Whether this machine lets us."""
    if os.geteuid() or not shutil.which("ip") or not shutil.which("unshare"):
        return False
    name = _full("probe")
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode == 0
    return made and subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False).returncode == 0


@contextmanager
def hosts(number: int) -> Iterator[list[Host]]:
    """So many hosts on one switch, 10.213.7.1 and up, which see each other and nobody else. They are gone when the context closes."""
    names = [f"host{place}" for place in range(1, number + 1)]
    table = "".join(f"{NETWORK}.{place} {name}\n" for place, name in enumerate(names, start=1)) + "127.0.0.1 localhost\n"
    try:
        _ip("netns", "add", _full(_SWITCH))
        _ip("-n", _full(_SWITCH), "link", "add", _BRIDGE, "type", "bridge")
        _ip("-n", _full(_SWITCH), "link", "set", _BRIDGE, "up")
        for place, name in enumerate(names, start=1):
            _files(name).mkdir(parents=True)
            (_files(name) / "hosts").write_text(table, encoding="utf-8")  # what /etc/hosts is there
            _ip("netns", "add", _full(name))
            _ip("-n", _full(name), "link", "add", CARD, "type", "veth", "peer", "name", name, "netns", _full(_SWITCH))
            _ip("-n", _full(name), "addr", "add", f"{NETWORK}.{place}/24", "dev", CARD)
            _ip("-n", _full(_SWITCH), "link", "set", name, "master", _BRIDGE, "up")
            for link in (CARD, "lo"):
                _ip("-n", _full(name), "link", "set", link, "up")
        yield [Host(f"{NETWORK}.{place}", _prefix(name)) for place, name in enumerate(names, start=1)]
    finally:
        for name in (*names, _SWITCH):
            subprocess.run(["ip", "netns", "del", _full(name)], capture_output=True, check=False)
            shutil.rmtree(_files(name), ignore_errors=True)


def pull_cable(place: int) -> None:
    """From now on nothing comes from or to the host of that place, counted from 1, and nobody is told."""
    _ip("-n", _full(_SWITCH), "link", "set", f"host{place}", "nomaster")


def _prefix(name: str) -> tuple[str, ...]:
    named = f'hostname {name} && exec "$@"'
    return ("ip", "netns", "exec", _full(name), "unshare", "--uts", "bash", "-c", named, name)


def _full(name: str) -> str:
    return f"foretaste-{os.getpid()}-{name}"


def _files(name: str) -> Path:
    return Path("/etc/netns") / _full(name)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
