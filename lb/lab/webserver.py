"""A lab host's web server: nginx with its configuration, pages and certificate on the host's own disk.

/              the host's name and a newline
/download      32 MiB, the same bytes on every host, as slowly as a client likes
/upload/NAME   keeps what is PUT there, in www/upload/
check's path   what the check wants to receive, with a status it accepts
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import ipaddress
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from lb.errors import LabError
from lb.lab.topology import Host, Page, Server

DOWNLOAD_BYTES = 32 << 20
STOP_TIMEOUT_S = 5.0

_SPARE_STATUS = 418
"""Turned into the status that a check wants: error_page can give any page any status, `return` not to redirects."""


def write_download(path: Path) -> None:
    """Bytes that any host can be checked for: SHAKE-128 of nothing. Nothing happens if the file is there."""
    if not path.exists():
        draft = path.with_suffix(".new")
        draft.write_bytes(hashlib.shake_128(b"").digest(DOWNLOAD_BYTES))
        draft.replace(path)


def prepare(host: Host, disk: Path, download: Path) -> None:
    """Write everything that `start` needs."""
    www = disk / "www"
    www.mkdir(parents=True, exist_ok=True)
    (www / "index").write_text(f"{host.name}\n")
    if not (www / "download").exists():
        os.link(download, www / "download")
    for server in host.servers:
        for number, page in enumerate(server.pages):
            (www / _file(server, number)).write_text(page.body)
    if any(server.tls for server in host.servers):
        write_certificate(host, disk)
    (disk / "nginx.conf").write_text(configuration(host, disk))


def _file(server: Server, number: int) -> str:
    return f"page-{server.port}-{number}"


def configuration(host: Host, disk: Path) -> str:
    """nginx.conf of a host. Pure."""
    ipv6 = any(address.version == 6 for address in host.addresses)
    servers = "".join(_server(server, disk, ipv6) for server in host.servers)
    temporary = "".join(
        f"    {kind}_temp_path {_quoted(str(disk / 'tmp'))};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""\
user root;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {_quoted(str(disk / "nginx.pid"))};
error_log {_quoted(str(disk / "nginx.log"))};
events {{ worker_connections 8192; }}
http {{
{temporary}\
    access_log off;
    default_type text/plain;
    root {_quoted(str(disk / "www"))};
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000;
    send_timeout 1h;
    server_tokens off;
{servers}\
}}
"""


def _server(server: Server, disk: Path, ipv6: bool) -> str:
    pages = {page.path: (page, _file(server, number)) for number, page in enumerate(server.pages)}
    index = Page(path="/", status=200, body="")
    locations = "".join(_location(page, file) for page, file in ({"/": (index, "index")} | pages).values())
    certificate = disk / "certificate.pem"
    tls = f"        ssl_certificate {_quoted(str(certificate))};\n" if server.tls else ""
    tls += f"        ssl_certificate_key {_quoted(str(certificate))};\n" if server.tls else ""
    options = f"{' ssl' if server.tls else ''} default_server backlog=4096"
    listen = f"        listen {server.port}{options};\n"
    listen += f"        listen [::]:{server.port}{options};\n" if ipv6 else ""
    return f"""\
    server {{
{listen}{tls}{locations}        location / {{ }}
        location /upload/ {{ dav_methods PUT; create_full_put_path on; client_max_body_size 0; }}
    }}
"""


def _location(page: Page, file: str) -> str:
    if page.status == 200:
        return f"        location = {_quoted(page.path)} {{ try_files /{file} =404; }}\n"
    return f"""\
        location = {_quoted(page.path)} {{ error_page {_SPARE_STATUS} ={page.status} /{file}; return {_SPARE_STATUS}; }}
"""


def _quoted(text: str) -> str:
    """A word of nginx's configuration, whatever is in it."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def write_certificate(host: Host, disk: Path) -> None:
    """A self-signed certificate with its key, for a lab's lifetime."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host.name)])
    now = dt.datetime.now(dt.UTC)
    addresses = [x509.IPAddress(ipaddress.ip_address(str(address))) for address in host.addresses]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=365))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host.name), *addresses]), critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = disk / "certificate.pem"
    file.touch(mode=0o600)
    file.write_bytes(secret + certificate.public_bytes(serialization.Encoding.PEM))


def start(disk: Path, env: Mapping[str, str]) -> None:
    """Start nginx in the calling thread's namespace; it listens when this returns. Raises LabError."""
    program = shutil.which("nginx", path=env["PATH"])
    if program is None:
        raise LabError("nginx is not installed, which the lab's reals need: apt install nginx-light")
    command = [program, "-p", str(disk), "-c", str(disk / "nginx.conf"), "-e", str(disk / "nginx.log")]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=env, check=False)
    if done.returncode:
        raise LabError(f"nginx does not start in {disk.name}: {done.stderr.strip()}")


def stop(pids: list[int]) -> None:
    """End these nginx processes as `nginx -s stop` does, open connections too. Raises LabError."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):  # the master has ended its worker meanwhile
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while alive := [pid for pid in pids if Path(f"/proc/{pid}/ns/net").exists()]:
        if time.monotonic() > deadline:
            raise LabError(f"nginx (pid {', '.join(map(str, alive))}) did not stop in {STOP_TIMEOUT_S:g} s")
        time.sleep(0.01)
