"""bpf(2) by ctypes: maps as numpy arrays, programs and links, without any library in between.

bcc's own batch calls make one Python object an item and lose entries past one batch; these fill arrays. Map and
program descriptors are plain integers, owned by the objects here. Linux 5.9 or newer.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import platform
import resource
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

XDP_ACTIONS = ("ABORTED", "DROP", "PASS", "TX", "REDIRECT")
DROP, PASS, TX, REDIRECT = 1, 2, 3, 4

PROG_TYPE_SOCKET_FILTER = 1
PROG_TYPE_XDP = 6
ATTACH_XDP = 37
XDP_FLAGS_SKB_MODE = 2
XDP_FLAGS_DRV_MODE = 4
F_MMAPABLE = 1 << 10
_F_XDP_HAS_FRAGS = 1 << 5
_LOG_STATISTICS = 4
INSTRUCTION = struct.Struct("<BBhi")
"""Operation, registers (written, and read times 16), offset, number (linux/bpf.h, struct bpf_insn)."""
XDP_PASS = INSTRUCTION.pack(0xB7, 0, 0, 2) + INSTRUCTION.pack(0x95, 0, 0, 0)
"""r0 = XDP_PASS; exit"""
MAP_TYPE_HASH = 1
MAP_TYPE_ARRAY = 2
MAP_TYPE_PROG_ARRAY = 3
PER_CPU_TYPES = (5, 6, 10)

_MAP_CREATE, _LOOKUP, _UPDATE, _DELETE, _PROG_LOAD, _OBJ_PIN, _OBJ_GET = 0, 1, 2, 3, 5, 6, 7
_TEST_RUN, _INFO, _LOOKUP_BATCH, _UPDATE_BATCH, _DELETE_BATCH = 10, 15, 24, 26, 27
_LINK_CREATE, _LINK_UPDATE, _LINK_DETACH = 28, 29, 34

_NOEXIST = 1
_FEW = 128
"""Entries that are looked at and written before the next ones are: a third of a millisecond."""

_EACH = 8
"""Looking up an entry by itself costs so many times what it costs among all."""

_NR_BPF = {"x86_64": 321, "aarch64": 280}
_ATTR_BYTES = 128
_ENOTSUPP = 524
"""The kernel's own number for an operation that a map does not have; no name in user space."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def call(command: int, attr: bytes | bytearray) -> int:
    """The system call. attr: the members that the command uses; written back when it is a bytearray. Raises OSError."""
    padded = ctypes.create_string_buffer(bytes(attr), _ATTR_BYTES)
    result: int = _libc.syscall(_NR_BPF[platform.machine()], command, padded, _ATTR_BYTES)
    if isinstance(attr, bytearray):
        attr[:] = padded.raw[: len(attr)]
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _address(array: Array) -> int:
    return int(array.ctypes.data)


@cache
def possible_cpus() -> int:
    """How many values a per-CPU map has for each key; the same as long as the kernel runs."""
    return _last_cpu("possible") + 1


def _last_cpu(kind: str) -> int:
    listed = Path("/sys/devices/system/cpu", kind).read_text()
    return int(listed.strip().replace(",", "-").split("-")[-1])


def online_cpus() -> int:
    """One more than the highest number of a CPU that is running."""
    return _last_cpu("online") + 1


def pin(fd: int, path: Path) -> None:
    """Let a program, map or link live on under a path of a bpf file system."""
    name = ctypes.create_string_buffer(os.fsencode(path))
    call(_OBJ_PIN, struct.pack("<QII", ctypes.addressof(name), fd, 0))


def open_pinned(path: Path) -> int:
    """A new descriptor of what is pinned there. Raises FileNotFoundError and other OSErrors."""
    name = ctypes.create_string_buffer(os.fsencode(path))
    return call(_OBJ_GET, struct.pack("<QII", ctypes.addressof(name), 0, 0))


def mount_bpffs(path: Path) -> None:
    """Mount a bpf file system there. Raises OSError."""
    if _libc.mount(b"bpf", os.fsencode(path), b"bpf", 0, None):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(path))


def _info(fd: int, size: int) -> bytes:
    buffer = ctypes.create_string_buffer(size)
    call(_INFO, struct.pack("<IIQ", fd, size, ctypes.addressof(buffer)))
    return buffer.raw


@dataclass(frozen=True, slots=True)
class MapInfo:
    """What the kernel knows of a map; sizes in bytes. flags: as it was made with."""

    type: int
    id: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int


def map_info(fd: int) -> MapInfo:
    """Of a map's descriptor."""
    return MapInfo(*struct.unpack_from("<IIIIII", _info(fd, 80)))


def program_id(fd: int) -> int:
    """Of a program's descriptor; what `ip link` shows as prog/xdp id."""
    number: int = struct.unpack_from("<II", _info(fd, 80))[1]
    return number


def link_interface(fd: int) -> int:
    """The index of the interface an XDP link hangs on; 0: it is gone."""
    number: int = struct.unpack_from("<IIIII", _info(fd, 64))[4]
    return number


@cache
def _lift_memory_limit() -> None:
    """Before Linux 5.11 programs and maps count as locked memory, of which a process may have 64 MiB by default."""
    with contextlib.suppress(OSError, ValueError):  # whoever may not lift it learns so from the call that it stops
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def create_map(kind: int, key_size: int, value_size: int, max_entries: int, flags: int = 0) -> int:
    """A descriptor of a new map."""
    _lift_memory_limit()
    return call(_MAP_CREATE, struct.pack("<IIIII", kind, key_size, value_size, max_entries, flags))


def load_xdp(instructions: bytes, jumbo: bool = False, log: ctypes.Array[ctypes.c_char] | None = None) -> int:
    """A descriptor of an XDP program given as instructions. jumbo: frames in several buffers too. Raises OSError.

    log: is written what the verifier says: why it refuses the program, or how far it had to go.
    """
    return load_program(PROG_TYPE_XDP, instructions, _F_XDP_HAS_FRAGS if jumbo else 0, log)


@cache
def takes_jumbo() -> bool:
    """Does this kernel show XDP programs frames that do not fit into one buffer? Linux 5.18."""
    try:
        os.close(load_xdp(XDP_PASS, jumbo=True))
    except OSError:
        return False
    return True


def load_program(kind: int, instructions: bytes, flags: int = 0, log: ctypes.Array[ctypes.c_char] | None = None) -> int:
    """A descriptor of a program of any kind. Raises OSError."""
    _lift_memory_limit()
    code = ctypes.create_string_buffer(instructions, len(instructions))
    licence = ctypes.create_string_buffer(b"GPL")
    attr = struct.pack(
        "<IIQQIIQII",
        kind, len(instructions) // 8, ctypes.addressof(code), ctypes.addressof(licence),
        *((_LOG_STATISTICS, len(log), ctypes.addressof(log)) if log else (0, 0, 0)), 0, flags,
    )  # fmt: skip
    return call(_PROG_LOAD, attr)


def attach_xdp(program_fd: int, interface: int, flags: int) -> int:
    """A link's descriptor. The program is detached when the last descriptor or pin of the link goes."""
    return call(_LINK_CREATE, struct.pack("<IIII", program_fd, interface, ATTACH_XDP, flags))


def replace_program(link_fd: int, program_fd: int) -> None:
    """Swap the program behind a link; each packet sees one of the two. Raises OSError (ENOLINK: it hangs nowhere)."""
    call(_LINK_UPDATE, struct.pack("<III", link_fd, program_fd, 0))


def detach_link(link_fd: int) -> None:
    """Take the program off the interface now; the kernel lets go of a forgotten link only by and by. Linux 5.9."""
    call(_LINK_DETACH, struct.pack("<I", link_fd))


def run_program(program_fd: int, frame: bytes, repeat: int = 1) -> tuple[int, bytes, int]:
    """BPF_PROG_TEST_RUN: (verdict, the frame that leaves, nanoseconds a run)."""
    data = ctypes.create_string_buffer(frame, len(frame))
    out = ctypes.create_string_buffer(len(frame) + 256)
    attr = bytearray(
        struct.pack(
            "<IIIIQQII",
            program_fd, 0, len(frame), len(out), ctypes.addressof(data), ctypes.addressof(out), repeat, 0,
        )
    )  # fmt: skip
    call(_TEST_RUN, attr)
    _, verdict, _, size, _, _, _, duration = struct.unpack("<IIIIQQII", attr)
    return verdict, out.raw[:size], duration


class Map:
    """A map whose keys and values are numpy types. Owns its descriptor.

    Before Linux 5.13 per-CPU arrays know no batches: their items are then read and written one by one.
    """

    def __init__(self, fd: int, key: np.dtype[Any], value: np.dtype[Any]) -> None:
        self.fd = fd
        self.key = key
        self.value = value
        self.info = map_info(fd)
        self.per_cpu = self.info.type in PER_CPU_TYPES
        if self.info.value_size and (self.info.key_size, self.info.value_size) != (key.itemsize, value.itemsize):
            raise ValueError(f"map of {self.info.key_size}+{self.info.value_size} bytes read as {key}+{value}")

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self.fd)

    def empty(self, count: int) -> Array:
        """Room for so many values; per-CPU maps have one column a CPU."""
        return np.zeros((count, possible_cpus()) if self.per_cpu else count, self.value)

    def lookup(self, key: Any) -> Array | None:
        """The value of a key, as an array of one (per CPU: of one row), or None."""
        keys, values = np.array([key], self.key), self.empty(1)
        try:
            call(_LOOKUP, struct.pack("<IxxxxQQQ", self.fd, _address(keys), _address(values), 0))
        except FileNotFoundError:
            return None
        return values

    def update(self, keys: Array, values: Array) -> None:
        """Write values, existing or new. Arrays of equal length; per-CPU values have one column a CPU."""
        keys, values = np.ascontiguousarray(keys, self.key), np.ascontiguousarray(values, self.value)
        if len(keys) != len(values):
            raise ValueError(f"{len(keys)} keys and {len(values)} values")
        if not len(keys):
            return
        try:
            call(_UPDATE_BATCH, self._batch(0, 0, keys, values, len(keys)))
        except OSError as error:
            if error.errno != _ENOTSUPP:
                raise
            for key, value in zip(keys.reshape(-1, 1), values.reshape(len(keys), 1, -1), strict=True):
                call(_UPDATE, struct.pack("<IxxxxQQQ", self.fd, _address(key), _address(value), 0))

    def insert(self, keys: Array, values: Array) -> Array:
        """Write the values of keys that are not there, one system call each. Returns which were not."""
        keys, values = np.ascontiguousarray(keys, self.key), np.ascontiguousarray(values, self.value)
        return self._each(_UPDATE, keys, values, errno.EEXIST, _NOEXIST)

    def replace(self, keys: Array, values: Array, before: Array) -> Array:
        """Write the values of keys that still have those of before. Returns which had.

        Of _FEW at a time: what a packet writes between that look and the writing is lost.
        """
        return self._if_still(keys, before, lambda those: self.update(keys[those], values[those]))

    def remove(self, keys: Array, before: Array) -> Array:
        """Delete the keys that still have the values of before. Returns which had. Of _FEW at a time, as `replace`."""
        return self._if_still(keys, before, lambda those: self.delete(keys[those]))

    def _if_still(self, keys: Array, before: Array, write: Callable[[Array], None]) -> Array:
        same = np.zeros(len(keys), np.bool_)
        for start in range(0, len(keys), _FEW):
            few = slice(start, start + _FEW)
            values, found = self.lookup_each(keys[few])
            same[few] = found & (values == before[few])
            write(start + np.flatnonzero(same[few]))
        return same

    def lookup_each(self, keys: Array) -> tuple[Array, Array]:
        """The values of many keys, and which of them were found; one system call each, no object each."""
        keys, values = np.ascontiguousarray(keys, self.key), self.empty(len(keys))
        return values, self._each(_LOOKUP, keys, values, errno.ENOENT)

    def _each(self, command: int, keys: Array, values: Array, otherwise: int, flags: int = 0) -> Array:
        """Of contiguous arrays. Returns for which it was done: not if it failed with this error. Raises OSError."""
        done = np.zeros(len(keys), np.bool_)
        attr = ctypes.create_string_buffer(_ATTR_BYTES)
        number, syscall = _NR_BPF[platform.machine()], _libc.syscall
        key, value = _address(keys), _address(values)
        for position in range(len(keys)):
            struct.pack_into("<IxxxxQQQ", attr, 0, self.fd, key, value, flags)
            done[position] = syscall(number, command, attr, _ATTR_BYTES) == 0
            if not done[position] and ctypes.get_errno() != otherwise:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            key += keys.itemsize
            value += values.strides[0]
        return done

    def delete(self, keys: Array) -> None:
        """Delete entries; those that are gone already are no error."""
        keys = np.ascontiguousarray(keys, self.key)
        start = 0
        while start < len(keys):
            attr = self._batch(0, 0, keys[start:], None, len(keys) - start)
            try:
                call(_DELETE_BATCH, attr)
                return
            except FileNotFoundError:
                start += self._count(attr) + 1

    def batches(self, size: int = 32_768) -> Iterator[tuple[Array, Array]]:
        """All entries, in arrays of at most `size` keys and values that are overwritten by the next batch.

        size must exceed the largest hash bucket. Entries that come or go meanwhile may be missed, others never.
        """
        size = min(size, self.info.max_entries)
        keys, values = np.zeros(size, self.key), self.empty(size)
        cursor = np.zeros(2, np.uint64)
        at = 0
        while True:
            attr = self._batch(at, _address(cursor), keys, values, size)
            try:
                call(_LOOKUP_BATCH, attr)
                end = False
            except FileNotFoundError:
                end = True
            at = _address(cursor)
            count = self._count(attr)
            if count:
                yield keys[:count], values[:count]
            if end:
                return

    def read(self) -> Array:
        """All values of an array map, by index; per-CPU maps have one column a CPU."""
        try:
            ((_, values),) = self.batches(self.info.max_entries)
        except OSError as error:
            if error.errno != _ENOTSUPP:
                raise
            values, _ = self.lookup_each(np.arange(self.info.max_entries, dtype=self.key))
        return values

    def read_at(self, indices: Array) -> Array:
        """The values of an array map at these places: one system call each, unless those are many."""
        if len(indices) * _EACH > self.info.max_entries:
            return self.read()[indices]
        values, _ = self.lookup_each(indices.astype(self.key))
        return values

    def mapped(self) -> Array:
        """The values of an array map that was made with F_MMAPABLE, shared with the kernel."""
        stride = (self.value.itemsize + 7) // 8 * 8
        size = -(-stride * self.info.max_entries // mmap.PAGESIZE) * mmap.PAGESIZE
        shared = mmap.mmap(self.fd, size)
        return np.ndarray(self.info.max_entries, self.value, shared, strides=(stride,))

    def _batch(self, at: int, cursor: int, keys: Array, values: Array | None, count: int) -> bytearray:
        return bytearray(
            struct.pack(
                "<QQQQIIQQ",
                at, cursor, _address(keys), 0 if values is None else _address(values), count, self.fd, 0, 0,
            )
        )  # fmt: skip

    @staticmethod
    def _count(attr: bytearray) -> int:
        count: int = struct.unpack_from("<I", attr, 32)[0]
        return count
