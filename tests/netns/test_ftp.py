"""FTP through a virtual with every port and persistence: vsftpd on the reals, data connections in both directions.

The control connection makes the client's template. Passive data connections go to other ports of the virtual address,
and follow it. For active ones the real itself connects, from the virtual address; the client's answers come to the
director as segments of a connection that it has not seen, begin with SYN and ACK, and follow the template too.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lb.lab.observe import run, run_in, spawn_in, wait_until
from tests.netns.cluster import lbctl

VIRTUAL = "10.9.0.100"
CLIENTS = ("10.9.0.231", "10.9.0.232", "10.9.0.233", "10.9.0.234")
REALS = {"ra": "10.9.0.11", "rb": "10.9.0.12"}

CONF = f"""
[cluster]
name = "ftp"
interface = "eth0"
[[node]]
name = "alone"
address = "10.9.0.1"
[[virtual]]
name = "files"
address = "{VIRTUAL}"
port = 0
persistent = "5m"
[virtual.check]
type = "on"
[[virtual.real]]
name = "ra"
address = "10.9.0.11"
[[virtual.real]]
name = "rb"
address = "10.9.0.12"
"""

SERVER = """
listen=YES
background=NO
anonymous_enable=YES
no_anon_password=YES
anon_root={root}
secure_chroot_dir={empty}
connect_from_port_20=YES
pasv_address={virtual}
seccomp_sandbox=NO
xferlog_enable=NO
"""

SESSION = """
import ftplib, sys
virtual, client, passive = sys.argv[1], sys.argv[2], sys.argv[3] == "passive"
with ftplib.FTP(timeout=10, source_address=(client, 0)) as ftp:
    ftp.connect(virtual, 21)
    ftp.login()
    ftp.set_pasv(passive)
    for _ in range(3):
        lines = []
        ftp.retrlines("RETR whoami", lines.append)
        print(*lines)
    size = 0
    def count(block):
        global size
        size += len(block)
    ftp.retrbinary("RETR large", count)
    print(size)
"""
LARGE_BYTES = 3_000_000


def _serves(address: str) -> bool:
    return run("lab", "exec", "client", "--", "curl", "-s", "-m2", f"ftp://{address}/whoami").returncode == 0


@pytest.fixture(scope="module", autouse=True)
def _lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    directory = tmp_path_factory.mktemp("ftp")
    directory.chmod(0o755)
    directory.parent.chmod(0o755)
    conf = directory / "cluster.toml"
    conf.write_text(CONF)
    lbctl("lab", "up", str(conf))
    servers: list[subprocess.Popen[str]] = []
    try:
        servers.extend(_start_server(name, directory / name) for name in REALS)
        for client in CLIENTS:
            run_in("client", "ip", "address", "add", f"{client}/24", "dev", "eth0")
        for address in REALS.values():
            wait_until("vsftpd serves", lambda: _serves(address))  # noqa: B023
        yield
    finally:
        for server in servers:
            server.terminate()
            server.communicate()
        lbctl("lab", "down", str(conf))


def _start_server(name: str, directory: Path) -> subprocess.Popen[str]:
    root, empty = directory / "root", directory / "empty"
    for folder in (directory, root, empty):
        folder.mkdir()
        folder.chmod(0o555 if folder != directory else 0o755)
    root.chmod(0o755)
    (root / "whoami").write_text(name)
    (root / "large").write_bytes(bytes(LARGE_BYTES))
    root.chmod(0o555)
    config = directory / "vsftpd.conf"
    config.write_text(SERVER.format(root=root, empty=empty, virtual=VIRTUAL))
    return spawn_in(name, "/usr/sbin/vsftpd", str(config))


@pytest.mark.parametrize("mode", ["passive", "active"])
def test_data_connections_follow_the_control_connection(mode: str) -> None:
    homes = set()
    for client in CLIENTS:
        *names, size = run_in("client", sys.executable, "-c", SESSION, VIRTUAL, client, mode).split()
        assert len(set(names)) == 1
        assert len(names) == 3
        assert int(size) == LARGE_BYTES
        homes.update(names)
    assert homes == set(REALS)


def test_a_client_keeps_its_server_in_either_mode() -> None:
    for client in CLIENTS:
        homes = {
            run_in("client", sys.executable, "-c", SESSION, VIRTUAL, client, mode).split()[0]
            for mode in ("active", "passive", "active")
        }
        assert len(homes) == 1
