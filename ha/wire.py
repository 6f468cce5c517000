"""One heartbeat as a datagram. Pure.

    0       4         5       6       10                42
    | LBHB  | version | key   | pass  | HMAC-SHA256     | msgpack map ...
                        id              of version+pass+map

A pass is good for one datagram: four bytes that follow from a key, the sender, its life and the sequence. Who reads
knows those of the next sequences beforehand, so that its kernel can tell what a peer has just sent from what is made
up, changed or repeated, before anything is read (`ha.steering`). Nothing is believed for its pass alone.

The map has one key a field of `Heartbeat`; a reader ignores keys it does not know, so that fields can be added without
a new version. A version is spoken by nobody but its own kind: it changes when an old reader would misunderstand.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Final, NamedTuple, Protocol

import msgpack
from pydantic import Field, TypeAdapter, ValidationError

from ha.passes import Passes
from ha.state import Report

VERSION: Final = 2
MAX_BYTES: Final = 1400
"""Larger datagrams would be fragmented on Ethernet; nothing sent comes near it."""

_MAGIC: Final = b"LBHB"
_HEADER: Final = struct.Struct("!4sBBI32s")
PASS_AT: Final = 6
"""Where in a datagram its pass is: four bytes, the highest first."""

_CONTEXT: Final = b"lbctl heartbeat"
"""Signed along, so that a signature is good for nothing but a heartbeat."""

_Unsigned = Annotated[int, Field(ge=0, lt=2**64)]


class Keys(Protocol):
    """What is needed of `ha.authkeys.AuthKeys`."""

    @property
    def sender(self) -> int:
        """The id of the key that signs, 0 to 255."""

    def sign(self, data: bytes) -> tuple[int, bytes]:
        """That id and a tag of 32 bytes."""

    def tag(self, key_id: int, data: bytes) -> bytes:
        """What that key would sign `data` with; empty: there is no such key."""

    def verify(self, key_id: int, data: bytes, tag: bytes) -> bool:
        """Was `data` signed with that key?"""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a sender has of the reader.

    lives: (life, highest sequence) of the reader's that the sender heard: the proven one and candidates. An echo of
    my present life proves that the sender is alive after my start; its sequence says how lately.
    hears: the sender heard me within deadtime. voids: the sender does not honour my claim to be active; voids_in: in
    which other groups.
    """

    lives: tuple[tuple[_Unsigned, _Unsigned], ...] = ()
    hears: bool = False
    voids: bool = False
    voids_in: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """life: random, new at each start. sequence: grows by each datagram of a life. awake_ms: how long the sender was
    running in this life, its stalls left out. config: digest of its configuration. seen: by each reader's name.
    others: reports of groups of addresses that have their own preferred node, by its name."""

    cluster: str
    node: str
    life: _Unsigned
    sequence: Annotated[int, Field(ge=1, lt=2**64)]
    awake_ms: _Unsigned
    config: str
    report: Report
    seen: dict[str, Seen] = field(default_factory=dict)
    others: dict[str, Report] = field(default_factory=dict)


class Turn(NamedTuple):
    """What is another one in each heartbeat, whatever it says."""

    sequence: int
    awake_ms: int


_SEQUENCE, _AWAKE_MS = (bytes(msgpack.packb(name)) for name in Turn._fields)


class Rejected(Exception):  # noqa: N818
    """A datagram that changes nothing. kind: the part of a counter's name after "heartbeat_"."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        super().__init__(kind)


_HEARTBEAT: Final = TypeAdapter(Heartbeat)


def encode(heartbeat: Heartbeat, passes: Passes, keys: Keys, later: Sequence[Turn] = ()) -> list[bytes]:
    """Its datagram, the same for every reader, and those that say the same in later turns; each has the next sequence.

    passes: the sender's own.
    """
    turns = [Turn(heartbeat.sequence, heartbeat.awake_ms), *later]
    said = {name: value for name, value in _fields(heartbeat).items() if name not in Turn._fields}
    packer = msgpack.Packer(default=_fields)
    head = packer.pack_map_header(len(said) + len(Turn._fields))
    same = b"".join(packer.pack(word) for item in said.items() for word in item)
    words = passes.of(range(turns[0].sequence, turns[-1].sequence + 1), keys.sender, keys)
    datagrams = []
    for (sequence, awake_ms), word in zip(turns, words, strict=True):
        body = b"".join((head, _SEQUENCE, packer.pack(sequence), _AWAKE_MS, packer.pack(awake_ms), same))
        tag = keys.tag(keys.sender, _signed(VERSION, word, body))
        datagrams.append(_HEADER.pack(_MAGIC, VERSION, keys.sender, word, tag) + body)
    return datagrams


def key_id_of(data: bytes) -> int:
    """With which key a datagram that can be decoded was signed."""
    return data[5]


def decode(data: bytes, keys: Keys) -> Heartbeat:
    """What was sent. Raises Rejected with kind malformed, version or key, and nothing else for any bytes."""
    if not _HEADER.size < len(data) <= MAX_BYTES or data[:4] != _MAGIC:
        raise Rejected("malformed")
    _, version, key_id, word, tag = _HEADER.unpack_from(data)
    if version != VERSION:
        raise Rejected("version")
    body = data[_HEADER.size :]
    if not keys.verify(key_id, _signed(version, word, body), tag):
        raise Rejected("key")
    try:
        return _HEARTBEAT.validate_python(msgpack.unpackb(body))
    except (ValueError, ValidationError, msgpack.UnpackException):
        raise Rejected("malformed") from None


def _fields(value: Any) -> dict[str, object]:
    return {field.name: getattr(value, field.name) for field in fields(value)}


def _signed(version: int, word: int, body: bytes) -> bytes:
    return _CONTEXT + bytes([version]) + word.to_bytes(4) + body
