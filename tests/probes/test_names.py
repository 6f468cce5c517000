"""dns against dnsmasq, over UDP and TCP."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from tests.probes.asking import SHORT, SHORT_S, judge
from tests.probes.processes import directory, listening, running
from tests.servers import free_port

RECORDS = """
no-resolv
no-hosts
bind-interfaces
listen-address=127.0.0.1
keep-in-foreground
pid-file=
user=root
group=root
host-record=www.test,192.0.2.80,2001:db8::80
cname=web.test,www.test
mx-host=mail.test,mx.test,10
txt-record=text.test,health=fine
srv-host=_sip._udp.test,sip.test,5060
ptr-record=80.2.0.192.in-addr.arpa,www.test
address=/silent.test/#
local=/test/
"""


@pytest.fixture(scope="module")
def names() -> Iterator[int]:
    port = free_port()
    with directory() as path:
        (path / "dnsmasq.conf").write_text(f"{RECORDS}port={port}\n")
        words = ["/usr/sbin/dnsmasq", f"--conf-file={path}/dnsmasq.conf", "--log-facility=-"]
        with running(words, lambda: listening(port), path / "log"):
            yield port


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
class TestEach:
    @pytest.mark.parametrize(
        ("check", "said"),
        [
            ({"request": "www.test"}, "192.0.2.80"),
            ({"request": "www.test", "record": "A", "receive": r"^192\.0\.2\.80$"}, "192.0.2.80"),
            ({"request": "www.test", "record": "AAAA", "receive": "2001:db8::80"}, "2001:db8::80"),
            ({"request": "web.test"}, "192.0.2.80"),
            ({"request": "mail.test", "record": "MX", "receive": "mx.test"}, "10 mx.test."),
            ({"request": "text.test", "record": "TXT", "receive": "health=fine"}, '"health=fine"'),
            ({"request": "_sip._udp.test", "record": "SRV", "receive": "5060 sip.test"}, "0 0 5060 sip.test."),
            ({"request": "192.0.2.80", "receive": "^www.test"}, "www.test."),
        ],
    )
    def test_the_right_answer(self, names: int, protocol: str, check: dict[str, str], said: str) -> None:
        assert judge(names, "dns", protocol, **check) == (True, f"answered {said}")

    def test_another_address(self, names: int, protocol: str) -> None:
        verdict = judge(names, "dns", protocol, request="www.test", receive="^10[.]")
        assert verdict == (False, "answer does not match '^10[.]'")

    def test_a_name_that_is_not_there(self, names: int, protocol: str) -> None:
        assert judge(names, "dns", protocol, request="nobody.test") == (False, "answered NXDOMAIN")

    def test_a_name_without_such_a_record(self, names: int, protocol: str) -> None:
        verdict = judge(names, "dns", protocol, request="text.test", record="MX")
        assert verdict == (False, "no MX record in the answer")

    def test_a_name_that_the_server_will_not_look_up(self, names: int, protocol: str) -> None:
        assert judge(names, "dns", protocol, request="www.elsewhere.invalid") == (False, "answered REFUSED")


def test_the_check_may_choose_what_the_virtual_does_not(names: int) -> None:
    assert judge(names, "dns", "tcp", protocol="udp", request="www.test")[0]


def test_an_answer_to_another_question_is_waited_out() -> None:
    """A datagram that does not carry our number is a stray one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))

        def stray() -> None:
            query, who = server.recvfrom(512)
            server.sendto(bytes((query[0] ^ 1,)) + query[1:], who)

        thread = threading.Thread(target=stray)
        thread.start()
        verdict = judge(server.getsockname()[1], "dns", "udp", request="www.test", timeout=SHORT_S)
        thread.join()
    assert verdict == (False, SHORT)
