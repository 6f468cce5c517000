"""The reading end of a BPF ring buffer, as numpy records."""

from __future__ import annotations

import mmap
import os
from typing import Any

import numpy as np
import numpy.typing as npt

from lb.bpf import map_info

Array = npt.NDArray[Any]


class Ring:
    """A ring whose records all have one type. Owns its descriptor.

    The descriptor is readable (poll, epoll) while records wait. One reader at a time. Layout: a page with the reader's
    position, a page with the writer's, then the records, mapped twice in a row so that none is split.
    """

    BUSY = 1 << 31
    DISCARDED = 1 << 30
    HEADER = 8

    def __init__(self, fd: int, record: np.dtype[Any]) -> None:
        self.fd = fd
        self.record = record
        self._size = map_info(fd).max_entries
        self._stride = self.HEADER + (record.itemsize + 7) // 8 * 8
        page = mmap.PAGESIZE
        self._consumer = np.frombuffer(mmap.mmap(fd, page), np.uint64, 1)
        produced = mmap.mmap(fd, page + 2 * self._size, prot=mmap.PROT_READ, offset=page)
        self._producer = np.frombuffer(produced, np.uint64, 1)
        self._data = np.frombuffer(produced, np.uint8, 2 * self._size, page)
        padding = self._stride - self.HEADER - record.itemsize
        self._framed = np.dtype([("header", "u4"), ("page", "u4"), ("record", record), ("padding", np.void, padding)])

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self.fd)

    def read(self) -> Array:
        """All records that are complete, oldest first; they are copied, and the ring is free for new ones."""
        start = int(self._consumer[0])
        count = (int(self._producer[0]) - start) // self._stride
        if not count:
            return np.empty(0, self.record)
        framed = np.frombuffer(self._data, self._framed, count, start % self._size)
        busy = np.flatnonzero(framed["header"] & self.BUSY)
        if len(busy):
            framed = framed[: busy[0]]
        records: Array = framed["record"][(framed["header"] & self.DISCARDED) == 0].copy()
        self._consumer[0] = start + len(framed) * self._stride
        return records
