"""What nobody else can put on a heartbeat: four bytes, good for one datagram (see `ha.wire`). Pure."""

from __future__ import annotations

import struct
from typing import Final, Protocol

import msgpack

_CONTEXT: Final = b"lbctl pass"
_BLOCK: Final = struct.Struct("!8I")
"""So many passes one HMAC gives."""

_SIZE: Final = 8


class Tagger(Protocol):
    """What is needed of `ha.authkeys.AuthKeys`."""

    def tag(self, key_id: int, data: bytes) -> bytes:
        """What that key would sign `data` with; empty: there is no such key."""


class Passes:
    """Those of one life of a sender. Who asks again for what it asked for the last time need not wait for an HMAC."""

    def __init__(self, cluster: str, node: str, life: int) -> None:
        self._names = _CONTEXT, cluster, node, life
        self._blocks: dict[int, tuple[int, ...]] = {}
        self._made_with: tuple[int, Tagger] | None = None

    def of(self, sequences: range, key_id: int, keys: Tagger) -> list[int]:
        """Of these sequences, which grow by one; none if there is no such key."""
        if self._made_with is None or self._made_with[0] != key_id or self._made_with[1] is not keys:
            self._blocks, self._made_with = {}, (key_id, keys)
        first = sequences.start // _SIZE
        blocks = range(first, -(-sequences.stop // _SIZE))
        self._blocks = {block: self._blocks.get(block) or self._block(block, key_id, keys) for block in blocks}
        words = [word for block in self._blocks.values() for word in block]
        return words[sequences.start - first * _SIZE :][: len(sequences)]

    def _block(self, block: int, key_id: int, keys: Tagger) -> tuple[int, ...]:
        tag = keys.tag(key_id, bytes(msgpack.packb((*self._names, block))))
        return _BLOCK.unpack(tag) if tag else ()
