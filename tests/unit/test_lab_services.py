"""What the lab writes for nginx, and how it recognises its processes."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path

import pytest

from lb.lab.services import service_of
from lb.lab.topology import Cable, Host, Page, Server
from lb.lab.webserver import configuration


def config_of(*pages: Page, tls: bool = False) -> str:
    server = Server(port=8080, tls=tls, pages=pages)
    cable = Cable(interface="eth0", addresses=(IPv4Address("10.0.0.1"),))
    host = Host(name="web1", kind="real", cables=(cable,), servers=(server,))
    return configuration(host, Path("/run/x y"))


def test_the_index_is_the_hosts_name() -> None:
    text = config_of()
    assert 'location = "/" { try_files /index =404; }' in text
    assert "listen 8080 default_server" in text
    assert "ssl" not in text


def test_a_check_of_the_index_replaces_it() -> None:
    text = config_of(Page(path="/", status=200, body="x"))
    assert text.count('location = "/"') == 1
    assert "/page-8080-0" in text


def test_another_status_than_200_is_given_to_the_page() -> None:
    text = config_of(Page(path="/up", status=302, body="x"))
    assert 'location = "/up" { error_page 418 =302 /page-8080-0; return 418; }' in text


def test_paths_are_quoted() -> None:
    assert 'location = "/a\\"b\\\\c {}"' in config_of(Page(path='/a"b\\c {}', status=200, body="x"))
    assert 'root "/run/x y/www";' in config_of()


def test_tls_names_the_certificate() -> None:
    text = config_of(tls=True)
    assert "listen 8080 ssl default_server" in text
    assert text.count('"/run/x y/certificate.pem"') == 2


@pytest.mark.parametrize(
    ("command", "service"),
    [
        ("nginx: master process /usr/sbin/nginx -p /run/lbctl/lab/demo/web1", "nginx"),
        ("nginx: worker process", "nginx"),
        ("/venv/bin/python /venv/lib/lb/lab/udp_echo.py dns1 5", "udp-echo"),
        ("/venv/bin/python -m lb up /etc/lbctl/cluster.toml --node lb1", "lbctl"),
        ("/venv/bin/python /venv/bin/lbctl up /etc/lbctl/cluster.toml", "lbctl"),
        ("/venv/bin/python -m lb lab up /etc/lbctl/cluster.toml", None),
        ("/venv/bin/python -m lb status", None),
        ("curl http://192.168.1.105/", None),
    ],
)
def test_whose_process_it_is(command: str, service: str | None) -> None:
    assert service_of(command) == service
