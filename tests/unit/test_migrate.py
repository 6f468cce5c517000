"""Files of ldirectord, keepalived and ipvsadm: what they come to, and that nothing in them is lost without a word."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from lb import config, migrate
from lb.cli.migrate import import_
from lb.errors import LbctlError, UsageError
from lb.migrate.blocks import parse

PORTS = {"http": 80, "https": 443, "domain": 53}
NODES = {"lb1": "10.0.0.1", "lb2": "10.0.0.2"}


def port_of(name: str, protocol: str) -> int | None:  # noqa: ARG001
    return PORTS.get(name)


def translated(name: str, words: str) -> tuple[dict[str, Any], list[str]]:
    """The file's tables, which lbctl accepts, and the notes without what they are about."""
    draft = migrate.FORMATS[name](words, port_of)
    draft.cluster.setdefault("interface", "eth0")
    text = migrate.text(draft, NODES)
    config.parse(text, "c")
    return tomllib.loads(text), [f"{note.line}: {note.what}" for note in draft.notes]


def whys(name: str, words: str) -> str:
    return "\n".join(str(note) for note in migrate.FORMATS[name](words, port_of).notes)


LDIRECTORD = """\
# the pair's
checktimeout=3
checkinterval=5
failurecount = 2
fallback=127.0.0.1:80 gate
quiescent=yes
autoreload=yes
logfile="local0"
emailalert="ops@example.com, boss@example.com"
emailalertstatus=running,stopping
maintenancedir=/etc/ha.d/maintenance

virtual=192.168.7.10:http
\treal=192.168.7.1->192.168.7.2:80 gate 5 l:3 u:9
    real=192.168.7.3:80 ipip 0 "other.html", "Fine [0-9]+\\."
    # a comment
    service=http
    request="index.html"   # cut here
    receive="Well"
    virtualhost=www.example.com
    httpmethod=get
    scheduler=wlc
    persistent=600
    netmask=255.255.255.0
    checktype=negotiate
    negotiatetimeout=7
    database="x"

virtual=192.168.7.10:53
    real=192.168.7.1:53 gate
    checktype=connect
    scheduler=rr
    ops=yes
    quiescent=no
    emailalert=dns@example.com
    emailalertfreq=600
    fallback=192.168.7.9:54
"""


def test_an_ldirectord_cf() -> None:
    tables, notes = translated("ldirectord", LDIRECTORD)
    assert tables["cluster"] == {"interface": "eth0", "maintenance": "/etc/ha.d/maintenance"}
    assert [node["name"] for node in tables["node"]] == ["lb1", "lb2"]
    assert tables["alerts"] == {"email": ["ops@example.com", "boss@example.com"], "phases": ["running"]}
    web, dns = tables["virtual"]
    check, reals = web.pop("check"), web.pop("real")
    assert web == {
        "name": "http", "address": "192.168.7.10", "port": 80, "protocol": "tcp", "scheduler": "wlc",
        "persistent": "600s", "netmask": 24, "fallback": "127.0.0.1",
    }  # fmt: skip
    assert check == {
        "type": "negotiate", "service": "http", "request": "/index.html", "receive": "Well", "method": "GET",
        "virtualhost": "www.example.com", "interval": "5s", "timeout": "7s", "failures": 2,
    }  # fmt: skip
    assert reals == [
        {"address": "192.168.7.1", "weight": 5, "lower": 3, "upper": 9},
        {"address": "192.168.7.2", "weight": 5, "lower": 3, "upper": 9},
        {
            "address": "192.168.7.3", "weight": 0, "forward": "ipip", "request": "/other.html",
            "receive": "Fine [0-9]+\\.",
        },
    ]  # fmt: skip
    assert (dns["protocol"], dns["one_packet"], dns["quiescent"], dns["fallback"]) == (
        "udp",
        True,
        False,
        "192.168.7.9",
    )
    assert dns["alerts"] == {"email": ["dns@example.com"], "repeat": "600s"}
    assert dns["check"] == {"type": "connect", "interval": "5s", "timeout": "3s", "failures": 2}
    assert notes == ["7: autoreload=yes", "8: logfile=local0", "27: database=x", "37: fallback=192.168.7.9:54"]


@pytest.mark.parametrize(("left", "right"), [('"', '"'), ("“", "”"), ("”", "”")])
def test_a_file_from_a_web_page_has_no_indentation(left: str, right: str) -> None:
    lines = [
        "quiescent=yes", "virtual=10.0.0.9:80", "real=10.0.0.11:80 gate", f"request={left}x.html{right}",
        f"receive={left}Test Page{right}", "fallback=127.0.0.1:80 gate", "checktype=negotiate",
    ]  # fmt: skip
    results = [translated("ldirectord", "\n\n".join(lines)), translated("ldirectord", "\r\n".join(lines))]
    for tables, notes in results:
        (virtual,) = tables["virtual"]
        assert virtual["check"]["request"] == "/x.html"
        assert virtual["check"]["receive"] == "Test Page"
        assert virtual["fallback"] == "127.0.0.1"
        assert notes == []


@pytest.mark.parametrize(
    ("lines", "check"),
    [
        ("virtual=10.0.0.9:995", {"type": "negotiate", "service": "pop", "tls": "on", "timeout": "30s"}),
        ("virtual=10.0.0.9:587", {"type": "negotiate", "service": "smtp", "tls": "starttls", "timeout": "30s"}),
        ("virtual=10.0.0.9:4711", {"type": "on"}),
        ("virtual=10.0.0.9:80\n checktype=ping\n negotiatetimeout=4", {"type": "ping", "timeout": "4s"}),
        ('virtual=10.0.0.9:80\n checktype=external\n checkcommand="/bin/x -q"', {"command": ["/bin/x", "-q"]}),
        ("virtual=10.0.0.9:80\n checktype=external-perl\n checkcommand=/bin/x", {"type": "external"}),
        ("virtual=10.0.0.9:80\n checktype=3\n checkport=8080", {"type": "negotiate", "port": 8080}),
        ("virtual=10.0.0.9:80\n checktype=off", {"type": "off"}),
        (
            'virtual=10.0.0.9:5432\n login="l"\n passwd="p"\n request="/SELECT 1"',
            {"service": "postgresql", "login": "l", "passwd": "p", "request": "SELECT 1"},
        ),
        ("virtual=10.0.0.9:80\n service=pingpong", {"type": "connect"}),
    ],
)
def test_checks_of_ldirectord(lines: str, check: dict[str, Any]) -> None:
    tables, _ = translated("ldirectord", lines.replace("\n ", "\n    "))
    found = tables["virtual"][0]["check"]
    assert {key: found.get(key) for key in check} == check


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ("virtual=1", "1: virtual=1: is a firewall mark: write a [[virtual]] with the addresses and ports"),
        ("virtual=10.0.0.9", "1: virtual=10.0.0.9: has no port"),
        ("virtual=www:80", "1: virtual=www:80: 'www' is no address, and names are not looked up; the whole section"),
        ("virtual=10.0.0.9:web", "1: virtual=10.0.0.9:web: 'web' is not a port of tcp"),
        ("virtual=10.0.0.9:80\n real=10.0.0.11:80", "2: real=10.0.0.11:80: is not: address, port, gate"),
        ("virtual=10.0.0.9:80\n real=db:80 gate", "2: real=db:80 gate: 'db' is no address"),
        ("virtual=10.0.0.9:80\n real=10.0.0.11:80 masq", "2: real=10.0.0.11:80 masq: masq is not there: with gate"),
        ("virtual=10.0.0.9:80\n real=10.0.0.11:81 gate", "the real must listen on 80, not on 81"),
        ("virtual=10.0.0.9:80\n real=10.0.0.11:80 gate twice", "'twice' is not understood; left out"),
        ("virtual=10.0.0.9:80\n real=10.0.0.5->10.0.0.3:80 gate", "is no range of at most 1024 addresses"),
        ("virtual=10.0.0.9:80\n scheduler=twos", "2: scheduler=twos: is not there; wlc is taken instead"),
        ("virtual=10.0.0.9:80\n service=pingpong", "2: service=pingpong: is not there; now a real is asked"),
        ("virtual=10.0.0.9:80\n netmask=255.0.0.0", "2: netmask=255.0.0.0: means nothing without persistent"),
        ("virtual=10.0.0.9:80\n emailalert=root", "2: root: is no mail address with a host"),
        ("virtual=10.0.0.9:80\n protocol=fwm", "2: protocol=fwm: is taken for tcp"),
        ("virtual=10.0.0.9:80\n servicename=my site", "2: servicename=my site: is called my-site here"),
        ("virtual=10.0.0.9:80\n ops=yes", "2: ops=yes: is for udp"),
        ("virtual=10.0.0.9:80\n timeout=3", "2: timeout=3: is no directive of ldirectord's; left out of 10.0.0.9:80"),
        ('virtual=10.0.0.9:80\n passwd="p"\n checktype=ping', "2: passwd: a check of ping does not read it"),
        ("virtual=10.0.0.9:80", "quiescent is nowhere said"),
        ("timeout=3", "1: timeout=3: is no directive of ldirectord's outside of a section"),
        ("supervised", "1: supervised: lbctl up runs in the foreground"),
        ("emailalert=root", "1: root: is no mail address with a host"),
        ("emailalertstatus=none", "1: emailalertstatus=none: who wants no mail"),
    ],
)
def test_what_is_not_translated_is_named(lines: str, why: str) -> None:
    found = whys("ldirectord", lines.replace("\n ", "\n    "))
    assert why in found
    assert "passwd=" not in found


IPVSADM = """\
-A -t 10.0.0.9:http -s wrr -p 600 -M 255.255.0.0
-a -t 10.0.0.9:http -r 10.0.0.11:80 -g -w 3 -x 100 -y 50
-a -t 10.0.0.9:http -r 10.0.0.12 -i
ipvsadm --add-service --udp-service [2001:db8::9]:53 --ops
-a -u [2001:db8::9]:53 -r [2001:db8::11]:53 -m -w 0
-A -t 10.0.0.9:0 -s sh -b sh-port,sh-fallback -p
-A -f 1 -s rr
-a -t 10.0.0.8:80 -r 10.0.0.11:80
-C
"""


def test_what_ipvsadm_saved() -> None:
    tables, notes = translated("ipvsadm", IPVSADM)
    web, dns, all_ports = tables["virtual"]
    assert web == {
        "name": "tcp-80", "address": "10.0.0.9", "port": 80, "protocol": "tcp", "scheduler": "wrr",
        "persistent": "600s", "netmask": 16,
        "real": [
            {"address": "10.0.0.11", "weight": 3, "upper": 100, "lower": 50},
            {"address": "10.0.0.12", "weight": 1, "forward": "ipip"},
        ],
    }  # fmt: skip
    assert (dns["address"], dns["protocol"], dns["scheduler"], dns["one_packet"]) == ("2001:db8::9", "udp", "wlc", True)
    assert dns["real"] == [{"address": "2001:db8::11", "weight": 0}]
    assert (all_ports["flags"], all_ports["persistent"], all_ports["check"]) == (
        ["sh-port", "sh-fallback"], "300s", {"type": "ping"}
    )  # fmt: skip
    assert notes == [
        "5: -a -u [2001:db8::9]:53 -r [2001:db8::11]:53 -m -w 0", "7: -A -f 1 -s rr",
        "8: -a -t 10.0.0.8:80 -r 10.0.0.11:80", "9: -C", "0: checks",
    ]  # fmt: skip


KEEPALIVED = """\
! the pair's
global_defs {
   notification_email { ops@example.com }
   notification_email_from "lb@example.com"
   smtp_server 10.0.0.25
   router_id LVS
}
vrrp_instance VI_1 {
    interface bond0
    authentication { auth_pass very-secret }
}
virtual_server_group WEB_1 {
    10.0.0.9 80
    10.0.0.9 443   # both
    10.0.0.20-21 80
}
virtual_server group WEB_1 {
    delay_loop 6
    lb_algo sh
    sh-port
    lb_kind DR
    persistence_timeout 50
    persistence_granularity 255.255.255.0
    quorum 2
    sorry_server 10.0.0.30 80
    inhibit_on_failure
    virtualhost www.example.com

    real_server 10.0.0.11 80
    {
        weight 3
        uthreshold 10
        notify_up "/bin/true"
        HTTP_GET {
            url { path /a
                  status_code 200 301-302 }
            url { path /b
                  digest 640205b7b0fc66c1ea91c463fac6334d }
            connect_timeout 3
            nb_get_retry 2
            delay_before_retry 3
        }
    }
    real_server 10.0.0.12 80 {
        TCP_CHECK { connect_port 8080 }
    }
}
virtual_server 10.0.0.9 53{
    protocol UDP
    ops
    real_server 10.0.0.11 5353 { MISC_CHECK { misc_path "/bin/look -x"
      misc_timeout 4
      misc_dynamic
    } }
}
virtual_server fwmark 3 { }
"""


def test_a_keepalived_conf() -> None:
    tables, notes = translated("keepalived", KEEPALIVED.replace("    virtualhost www.example.com\n", ""))
    assert tables["cluster"] == {"interface": "bond0"}
    assert tables["alerts"] == {
        "email": ["ops@example.com"], "email_from": "lb@example.com", "smtp": "10.0.0.25",
    }  # fmt: skip
    web, dns = tables["virtual"]
    check, reals = web.pop("check"), web.pop("real")
    assert web == {
        "name": "WEB-1", "address": "10.0.0.9", "port": 80, "protocol": "tcp",
        "also": ["10.0.0.9:443", "10.0.0.20:80", "10.0.0.21:80"], "scheduler": "sh", "flags": ["sh-port"],
        "persistent": "50s", "netmask": 24, "fallback": "10.0.0.30",
    }  # fmt: skip
    parts = check.pop("part")
    assert check == {"type": "all", "interval": "6s", "timeout": "3s", "failures": 3}
    assert parts == [
        {"type": "negotiate", "service": "http", "request": "/a", "status": [200, 301, 302]},
        {"type": "negotiate", "service": "http", "request": "/b", "digest": "640205b7b0fc66c1ea91c463fac6334d"},
    ]
    assert reals == [{"address": "10.0.0.11", "weight": 3, "upper": 10}, {"address": "10.0.0.12"}]
    assert (dns["scheduler"], dns["one_packet"], dns["quiescent"]) == ("wlc", True, False)
    assert dns["check"] == {
        "type": "external", "command": ["/bin/look", "-x"], "interval": "60s", "timeout": "4s", "failures": 1,
        "dynamic_weight": True,
    }  # fmt: skip
    assert [note.split(" ", 1)[1] for note in notes] == [
        "router_id LVS", "vrrp_instance VI_1", "quorum 2", "notify_up /bin/true", "delay_before_retry 3",
        "real_server 10.0.0.12 80", "virtual_server 10.0.0.9 53", "real_server 10.0.0.11 5353",
        "virtual_server fwmark 3",
    ]  # fmt: skip
    assert "very-secret" not in whys("keepalived", KEEPALIVED)


@pytest.mark.parametrize(
    ("checker", "check"),
    [
        ("SSL_GET { url { path / \n regex x } }", {"service": "https", "receive": "x", "failures": 2}),
        ("SMTP_CHECK { helo_name me.example }", {"service": "smtp", "request": "me.example"}),
        (
            "DNS_CHECK { type A \n name x.example }",
            {"service": "dns", "record": "A", "request": "x.example", "failures": 4},
        ),
        ("PING_CHECK { }", {"type": "ping"}),
        (
            "UDP_CHECK { payload 0a \n require_reply 0x }",
            {"service": "simpleudp", "request_hex": "0a", "receive_hex": "0x"},
        ),
        ("UDP_CHECK { }", {"type": "connect"}),
        ("", {"type": "on"}),
        ("BFD_CHECK { name x }", {"type": "on"}),
    ],
)
def test_checkers_of_keepalived(checker: str, check: dict[str, Any]) -> None:
    words = f"virtual_server 10.0.0.9 80 {{ lb_kind DR\n real_server 10.0.0.11 80 {{ {checker} }} }}"
    tables, notes = translated("keepalived", words)
    found = tables["virtual"][0]["check"]
    assert {key: found.get(key) for key in check} == check
    assert bool(notes) == checker.startswith("BFD")


def test_braces_of_keepalived() -> None:
    (outer, after) = parse('a b { c "d e" { f } }  } \n g # h\n')
    assert (outer.words, outer.inside[0].words, outer.inside[0].inside[0].words) == (("a", "b"), ("c", "d e"), ("f",))
    assert after.words == ("g",)
    assert parse("{ x }")[0].inside[0].key == "x"


@pytest.mark.parametrize(
    ("name", "words"), [("ldirectord", LDIRECTORD), ("keepalived", KEEPALIVED), ("ipvsadm", IPVSADM)]
)
@given(data=st.data())
@settings(deadline=None)
def test_no_file_is_too_broken(name: str, words: str, data: st.DataObject) -> None:
    """Lines are lost, cut and mixed; whatever comes of it can be written, and is TOML."""
    lines = st.sampled_from(words.splitlines())
    cut = st.builds(lambda line, start, end: line[start : end or None], lines, st.integers(0, 20), st.integers(-20, 0))
    broken = "\n".join(data.draw(st.lists(st.one_of(lines, lines, cut), max_size=30)))
    tomllib.loads(migrate.text(migrate.FORMATS[name](broken, port_of), NODES))


@pytest.mark.parametrize("words", [LDIRECTORD, KEEPALIVED, IPVSADM])
def test_whose_file_it_is(words: str) -> None:
    names = {LDIRECTORD: "ldirectord", KEEPALIVED: "keepalived", IPVSADM: "ipvsadm"}
    assert migrate.guess(words) == names[words]
    assert migrate.guess("[cluster]\nname = 'x'\n") is None


def test_the_command(tmp_path: Path) -> None:
    source, result = tmp_path / "ldirectord.cf", tmp_path / "cluster.toml"
    source.write_text(LDIRECTORD)
    words = [str(source), "--interface", "bond1", "-o", str(result)]
    done = CliRunner().invoke(import_, [*words, "--node", "lb1=10.0.0.1"], catch_exceptions=False)
    assert done.exit_code == 0
    assert f"{source}:8: logfile=local0: the log goes to standard error" in done.output
    assert "Still to be done" not in done.output
    assert config.load(result).cluster.interface == "bond1"
    assert result.stat().st_mode & 0o777 == 0o600
    with pytest.raises(LbctlError, match="is there already"):
        CliRunner().invoke(import_, words, catch_exceptions=False)
    shown = CliRunner().invoke(import_, [str(source)], catch_exceptions=False).output
    assert "cluster.toml: node: is missing" in shown
    assert 'interface = "eth0"' in shown


@pytest.mark.parametrize(
    ("text", "words", "message"),
    [
        ("nothing", [], "looks like nobody's file"),
        ("", ["--from", "ipvsadm"], "has nothing that ipvsadm would read"),
        (LDIRECTORD, ["--node", "lb1"], "is not NAME=ADDRESS"),
    ],
)
def test_what_the_command_refuses(tmp_path: Path, text: str, words: list[str], message: str) -> None:
    source = tmp_path / "file"
    source.write_text(text)
    with pytest.raises(UsageError, match=message):
        CliRunner().invoke(import_, [str(source), *words], catch_exceptions=False)
