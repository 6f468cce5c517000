"""sip against Kamailio, over UDP, TCP and TLS' absence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.probes.asking import judge, judge_served
from tests.probes.processes import directory, listening, running
from tests.servers import free_port, says

_CONFIG = """
debug=0
fork=yes
children=1
tcp_children=1
log_stderror=yes
auto_aliases=no
mpath="/usr/lib/x86_64-linux-gnu/kamailio/modules:/usr/lib/kamailio/modules"
listen=udp:127.0.0.1:{port}
listen=tcp:127.0.0.1:{port}
loadmodule "sl.so"
loadmodule "pv.so"
request_route {{
  if ($rU == "ill") {{
    sl_send_reply("503", "Service Unavailable");
    exit;
  }}
  if ($fU == "jane") {{
    sl_send_reply("200", "Hello Jane");
    exit;
  }}
  sl_send_reply("200", "OK");
}}
"""


@pytest.fixture(scope="module")
def sip() -> Iterator[int]:
    port = free_port()
    with directory() as path:
        config = path / "kamailio.cfg"
        config.write_text(_CONFIG.format(port=port))
        words: list[str | Path] = ["/usr/sbin/kamailio", "-DD", "-f", config, "-Y", path, "-m", "16", "-M", "4"]
        with running(words, lambda: listening(port), path / "log"):
            yield port


@pytest.mark.parametrize("over", ["udp", "tcp"])
class TestEach:
    def test_options(self, sip: int, over: str) -> None:
        assert judge(sip, "sip", over) == (True, "answered 200 OK")

    def test_who_asks(self, sip: int, over: str) -> None:
        assert judge(sip, "sip", over, login="jane@example.com") == (True, "answered 200 Hello Jane")

    def test_whom_it_is_about(self, sip: int, over: str) -> None:
        verdict = judge(sip, "sip", over, request="ill@example.com")
        assert verdict == (False, "answered '503 Service Unavailable', expected 200")

    def test_the_answers_head_is_looked_at(self, sip: int, over: str) -> None:
        assert judge(sip, "sip", over, receive="^Server: kamailio")[0]
        assert judge(sip, "sip", over, receive="^Server: Asterisk$") == (
            False,
            "answer does not match '^Server: Asterisk$'",
        )


def test_a_provisional_answer_is_waited_out() -> None:
    trying = b"SIP/2.0 100 Trying\r\nContent-Length: 0\r\n\r\n"
    assert judge_served(says(trying, b"SIP/2.0 200 OK\r\n\r\n"), "sip") == (True, "answered 200 OK")
