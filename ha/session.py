"""An authenticated stream between two directors: greeting, then frames. Sans-I/O.

    acceptor → initiator   greeting   | LBSY | version | length | msgpack map: cluster, node, life, nonce |
    initiator → acceptor   greeting, then its frame 0
    acceptor → initiator   its frame 0
    both                   frames     | length | key id | HMAC-SHA256 | payload |

The session's name is the hash of both greetings, so each side's fresh nonce is in it. A frame's tag covers the name,
the direction, the frame's number and the payload: it is good for one place in one direction of one session, and neither
a recorded frame nor one taken out, doubled or moved passes. Frame 0 is empty; it proves that its sender holds a key
before anything else is believed. The acceptor speaks first, so whoever knocks learns that a process is there.

What is sent is not secret: who can listen learns addresses and ports that it sees in the packets anyway.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Final

import msgpack
from pydantic import TypeAdapter, ValidationError

from ha.wire import Keys

VERSION: Final = 1
NONCE_BYTES: Final = 32
MAX_PAYLOAD: Final = 1 << 18
"""Bytes of a frame's payload: room for the largest chunk of rows, little enough to hold in memory for any stranger."""

_MAGIC: Final = b"LBSY"
_GREETING: Final = struct.Struct("!4sBH")
_MAX_GREETING: Final = 512
_FRAME: Final = struct.Struct("!IB32s")
_CONTEXT: Final = b"lbctl sync"
_NUMBER: Final = struct.Struct("!?Q")


@dataclass(frozen=True, slots=True)
class Greeting:
    """Who speaks. life: as in its heartbeats. understands: more kinds of messages than the first version had."""

    cluster: str
    node: str
    life: int
    nonce: bytes
    understands: tuple[str, ...] = ()


class Broken(Exception):  # noqa: N818
    """The stream cannot go on. kind: the part of a counter's name after "sync_"."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        super().__init__(kind)


_READ_GREETING: Final = TypeAdapter(Greeting)


class Session:
    """One side of a stream.

    Send `data_to_send` whenever something was called; give `receive` what arrived and use the payloads that it yields.
    peer: the other side's greeting, to be believed once `established`. peers: who may be at the other end.
    """

    def __init__(self, me: Greeting, peers: tuple[str, ...], keys: Keys, *, initiator: bool) -> None:
        self.peer: Greeting | None = None
        self.established = False
        self._me = me
        self._peers = peers
        self._keys = keys
        self._initiator = initiator
        self._name = b""
        self._sent = 0
        self._received = 0
        self._in = bytearray()
        self._out: list[bytes] = []
        self._greeting = _encode(me)
        if not initiator:
            self._out.append(self._greeting)

    def send(self, payload: bytes) -> None:
        """Put a payload into a frame. Only once established; at most MAX_PAYLOAD bytes."""
        if len(payload) > MAX_PAYLOAD:
            raise ValueError(f"payload of {len(payload)} bytes; at most {MAX_PAYLOAD}")
        key_id, tag = self._keys.sign(self._signed(self._initiator, self._sent, payload))
        self._sent += 1
        self._out += [_FRAME.pack(len(payload), key_id, tag), payload]

    def data_to_send(self) -> bytes:
        """What is to go out now; each byte once."""
        data = b"".join(self._out)
        self._out.clear()
        return data

    def receive(self, data: bytes) -> Iterator[bytes]:
        """Payloads that came complete with `data`. Raises Broken; the stream must be closed then."""
        self._in += data
        if self.peer is None and not self._read_greeting():
            return
        while (payload := self._read_frame()) is not None:
            if self.established:
                yield payload
            elif payload:
                raise Broken("malformed")
            else:
                self._establish()

    def _read_greeting(self) -> bool:
        if not _MAGIC.startswith(bytes(self._in[:4])):
            raise Broken("malformed")
        if len(self._in) < _GREETING.size:
            return False
        _, version, length = _GREETING.unpack_from(self._in)
        if version != VERSION:
            raise Broken("version")
        if length > _MAX_GREETING:
            raise Broken("oversized")
        end = _GREETING.size + length
        if len(self._in) < end:
            return False
        theirs = bytes(self._in[:end])
        del self._in[:end]
        try:
            peer = _READ_GREETING.validate_python(msgpack.unpackb(theirs[_GREETING.size :]))
        except (ValueError, ValidationError, msgpack.UnpackException):
            raise Broken("malformed") from None
        if peer.cluster != self._me.cluster:
            raise Broken("cluster")
        if peer.node not in self._peers:
            raise Broken("stranger")
        if len(peer.nonce) != NONCE_BYTES:
            raise Broken("malformed")
        both = (self._greeting, theirs) if self._initiator else (theirs, self._greeting)
        self._name = hashlib.sha256(b"".join(both)).digest()
        self.peer = peer
        if self._initiator:
            self._out.append(self._greeting)
            self.send(b"")
        return True

    def _establish(self) -> None:
        self.established = True
        if not self._initiator:
            self.send(b"")

    def _read_frame(self) -> bytes | None:
        if len(self._in) < _FRAME.size:
            return None
        length, key_id, tag = _FRAME.unpack_from(self._in)
        if length > (MAX_PAYLOAD if self.established else 0):
            raise Broken("oversized")
        end = _FRAME.size + length
        if len(self._in) < end:
            return None
        payload = bytes(self._in[_FRAME.size : end])
        if not self._keys.verify(key_id, self._signed(not self._initiator, self._received, payload), tag):
            raise Broken("key")
        del self._in[:end]
        self._received += 1
        return payload

    def _signed(self, from_initiator: bool, number: int, payload: bytes) -> bytes:
        return b"".join((_CONTEXT, self._name, _NUMBER.pack(from_initiator, number), payload))


def _encode(greeting: Greeting) -> bytes:
    body = msgpack.packb(asdict(greeting))
    return bytes(_GREETING.pack(_MAGIC, VERSION, len(body)) + body)
