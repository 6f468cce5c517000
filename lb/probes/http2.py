"""`negotiate` over http2, and grpc's health service on top of it.

Inside TLS the protocol is agreed upon by ALPN; without TLS the real must know beforehand that it speaks HTTP/2.
Redirects are answers like any other. Source: RFC 9113; gRPC over HTTP/2 and the health checking protocol (v1).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events
import h2.exceptions

from lb.addresses import with_port
from lb.probes.base import LIMIT, Failed, Seen, Target, Tools
from lb.probes.dialogue import Dialogue, closed, dialogue
from lb.probes.http import judge_body, judge_status
from lb.probes.http1 import authorization
from lb.wording import show

ALPN = "h2"

SERVING = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")
"""ServingStatus of grpc.health.v1 by its numbers."""
GRPC_OK, GRPC_NOT_FOUND, GRPC_UNIMPLEMENTED = 0, 5, 12


@dataclass(slots=True)
class Answer:
    """A response: its headers, trailers among them, and the first LIMIT bytes of its body."""

    headers: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    ended: bool = False


async def probe(target: Target, _tools: Tools) -> Seen:
    """Ask for the page and judge the answer."""
    check = target.check
    answer, warning = await _ask(target, check.method, check.request or "/", _lower(authorization(check)), None)
    status = _status(answer)
    judge_status(check, status)
    weight = await judge_body(check, bytes(answer.body))
    return Seen(f"status {status}", warning, weight)


async def grpc(target: Target, _tools: Tools) -> Seen:
    """Call Check of the health service: for the service in `request`, without it for the server as a whole."""
    name = (target.check.request or "").encode()
    message = b"\x0a" + _varint(len(name)) + name if name else b""
    framed = b"\0" + len(message).to_bytes(4, "big") + message
    headers = {"content-type": "application/grpc", "te": "trailers"}
    answer, warning = await _ask(target, "POST", "/grpc.health.v1.Health/Check", headers, framed)
    if (status := _status(answer)) != 200:
        raise Failed(f"status {status}, expected 200")
    code = answer.headers.get("grpc-status", "")
    if code == str(GRPC_UNIMPLEMENTED):
        raise Failed("the server has no health service")
    if code == str(GRPC_NOT_FOUND):
        raise Failed(f"the server does not know the service {target.check.request!r}")
    if code != str(GRPC_OK):
        raise Failed(f"gRPC status {code[:10] or 'missing'}: {answer.headers.get('grpc-message', '')[:100]}")
    serving = _serving(bytes(answer.body[5:]))
    if serving != "SERVING":
        raise Failed(serving)
    return Seen(serving, warning)


async def _ask(
    target: Target, method: str, path: str, headers: dict[str, str], body: bytes | None
) -> tuple[Answer, str]:
    encrypted = target.check.encrypted
    name = target.check.virtualhost or with_port(target.name, target.port)
    async with dialogue(target, *([ALPN] if encrypted else []), limit=2 * LIMIT) as real:
        if encrypted and real.protocol != ALPN:
            raise Failed("the server does not offer HTTP/2 (ALPN)")
        connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        connection.initiate_connection()
        pseudo = {":method": method, ":path": path, ":scheme": "https" if encrypted else "http", ":authority": name}
        connection.send_headers(
            1, [*pseudo.items(), ("user-agent", "lbctl"), *headers.items()], end_stream=body is None
        )
        if body is not None:
            connection.send_data(1, body, end_stream=True)
        answer = Answer()
        try:
            await _converse(real, connection, answer)
        except (h2.exceptions.H2Error, ValueError, LookupError) as error:
            raise Failed(f"not HTTP/2: {str(error)[:100] or type(error).__name__}") from error
        return answer, real.warning


async def _converse(real: Dialogue, connection: h2.connection.H2Connection, answer: Answer) -> None:
    """Send, hear and acknowledge until the answer has ended or is long enough."""
    while not answer.ended and len(answer.body) < LIMIT:
        real.send(connection.data_to_send())
        heard = await real.some()
        if not heard:
            raise closed(bool(answer.headers))
        for event in connection.receive_data(heard):
            match event:
                case h2.events.ResponseReceived() | h2.events.TrailersReceived():
                    answer.headers.update((str(key), str(value)) for key, value in event.headers or ())
                case h2.events.DataReceived():
                    answer.body += event.data or b""
                    connection.acknowledge_received_data(event.flow_controlled_length or 0, 1)
                case h2.events.StreamEnded():
                    answer.ended = True
                case h2.events.StreamReset():
                    raise Failed(f"the stream was reset with error {event.error_code}")
                case h2.events.ConnectionTerminated():
                    raise Failed(f"the connection was ended with error {event.error_code}")


def _lower(headers: dict[str, str]) -> dict[str, str]:
    return {key.lower(): value for key, value in headers.items()}


def _status(answer: Answer) -> int:
    status = answer.headers.get(":status", "")
    if not (status.isascii() and status.isdigit()):
        raise Failed(f"not HTTP/2: status {show(status)}")
    return int(status)


def _varint(number: int) -> bytes:
    """A number as protobuf has it: seven bits a byte, the least first."""
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    return bytes((*encoded, number))


def _serving(message: bytes) -> str:
    """The status of a HealthCheckResponse, whose only field is that number; UNKNOWN, its default, is left out."""
    if not message:
        return SERVING[0]
    if len(message) == 2 and message[0] == 8 and message[1] < len(SERVING):
        return SERVING[message[1]]
    raise Failed("not an answer of gRPC's health service")
