"""Values of the configuration that are an address and a port, as the file writes them."""

from __future__ import annotations

import re
from typing import Annotated, Literal, NamedTuple

from pydantic import BeforeValidator, Field, PlainSerializer

from lb import fields
from lb.addresses import with_port
from lb.catalog import PROTOCOLS
from lb.fields import Address, Frozen, Port
from lb.wording import refuse_word, show

Protocol = Literal["tcp", "udp"]

_PAIR = re.compile(r"(?:([^:\[\]]*)|\[([^\[\]]*)\]):([0-9]{1,5})(?:/(\w*))?")


class Endpoint(Frozen):
    """An address and, where one was given, a port. In the file: `"127.0.0.1:80"` or `"127.0.0.1"`."""

    address: Address
    port: Port | None = None

    def __str__(self) -> str:
        return with_port(self.address, self.port) if self.port else str(self.address)


def _parse_endpoint(value: object) -> Endpoint:
    if isinstance(value, Endpoint):
        return value
    address, port = fields.parse_address_port(value)
    return Endpoint(address=address, port=port)


Fallback = Annotated[Endpoint, BeforeValidator(_parse_endpoint), PlainSerializer(str)]


class Pair(NamedTuple):
    """What packets are sent to. port 0: every one of the address."""

    address: Address
    port: int
    protocol: Protocol


class FurtherPair(Frozen):
    """The same where a virtual has several; protocol None: the virtual's.

    In the file: `"192.168.1.105:443"` or `"192.168.1.105:443/udp"`.
    """

    address: Address
    port: Annotated[int, fields.within(0, 65535)]
    protocol: Protocol | None = None

    def __str__(self) -> str:
        return with_port(self.address, self.port) + (f"/{self.protocol}" if self.protocol else "")


def _parse_further(value: object) -> FurtherPair:
    if isinstance(value, FurtherPair):
        return value
    found = _PAIR.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(
            f'{show(value)} is not an address with a port; write it like "192.168.1.105:443" or "192.168.1.105:443/udp"'
        )
    bare, bracketed, port, protocol = found.groups()
    if int(port) > 65535:
        raise ValueError(f"{show(value)}: {port} is not a port; accepted: 0 to 65535")
    if protocol is not None and (message := refuse_word(protocol, "a protocol", PROTOCOLS)):
        raise ValueError(f"{show(value)}: {message}")
    address = fields.parse_address(bare or bracketed)
    return FurtherPair.model_validate({"address": address, "port": int(port), "protocol": protocol})


_Further = Annotated[FurtherPair, BeforeValidator(_parse_further), PlainSerializer(str)]
Also = Annotated[tuple[_Further, ...], Field(strict=False)]
"""Further pairs of a virtual."""
