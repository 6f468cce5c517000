"""Every variant of the packet program through the verifier of the kernel that runs: `python -m tests.vm.verify`.

    python -m tests.vm.verify compile FILE     compiles them into FILE; takes the compiler's second or more for each
    python -m tests.vm.verify load FILE        loads them from there, on whatever kernel; prints a line for each

What the compiler makes depends on no kernel, so that a slow guest need only load it: the maps' descriptors in the
instructions are those of the process that compiled, and are replaced here.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import re
import struct
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lb import abi, bpf

_LOAD_IMMEDIATE = 0x18
_PSEUDO_MAPS = (1, 2)
"""BPF_PSEUDO_MAP_FD, BPF_PSEUDO_MAP_VALUE: what the source register of such an instruction says."""
_LOG_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Compiled:
    """A program on its way to a kernel. maps: by the descriptor that stands in its instructions."""

    name: str
    jumbo: bool
    instructions: bytes
    maps: Mapping[int, bpf.MapInfo]


def compile_all() -> Iterator[Compiled]:
    """Every variant of `tests.packet.variants`, by bcc."""
    from lb.datapath import pins, source
    from lb.datapath.compiler import FUNCTION, module_of
    from tests.packet.variants import variants

    pins.mount()
    home = pins.home(f"verify-{os.getpid()}")
    for number, variant in enumerate(variants()):
        directory = home / str(number)
        directory.mkdir(parents=True)
        try:
            seeds = bytes(range(source.SEED_BYTES)), bytes(range(abi.EMBRYO_SEED_BYTES))
            text = source.program_text(variant.configuration, directory, *seeds)
            with module_of(text) as module:
                instructions = module.dump_func(FUNCTION.encode())
                maps = {fd: bpf.map_info(fd) for _, fd in _map_references(instructions)}
                yield Compiled(variant.name, variant.configuration.jumbo, instructions, maps)
        finally:
            pins.remove(directory)
    home.rmdir()


def load_all(programs: list[Compiled]) -> bool:
    """Load each, tell how many instructions the verifier went through; False if one was refused."""
    refused = [program.name for program in programs if not _tell(program)]
    print(f"{len(programs) - len(refused)} of {len(programs)} programs loaded on Linux {os.uname().release}")
    return not refused


def _tell(program: Compiled) -> bool:
    """Was it as it must be?"""
    if program.jumbo and not bpf.takes_jumbo():
        print(f"-         {program.name} (this kernel has no frames in several buffers; lbctl asks it before)")
        return True
    started = time.monotonic()
    fds = {
        old: bpf.create_map(i.type, i.key_size, i.value_size, i.max_entries, i.flags) for old, i in program.maps.items()
    }
    log = ctypes.create_string_buffer(_LOG_BYTES)
    try:
        os.close(bpf.load_xdp(_with_maps(program.instructions, fds), program.jumbo, log))
    except OSError as error:
        print(f"REFUSED   {program.name}: {error}\n{log.value.decode(errors='replace')[-2000:]}", flush=True)
        return False
    finally:
        for fd in fds.values():
            os.close(fd)
    walked = re.search(r"processed (\d+) insns", log.value.decode(errors="replace"))
    print(f"{walked[1] if walked else '?':<9} {program.name} ({time.monotonic() - started:.1f} s)", flush=True)
    return True


def _map_references(instructions: bytes) -> Iterator[tuple[int, int]]:
    """Where an instruction names a map, in bytes, and which."""
    offset = 0
    while offset < len(instructions):
        code, registers, _, immediate = bpf.INSTRUCTION.unpack_from(instructions, offset)
        if code == _LOAD_IMMEDIATE and registers >> 4 in _PSEUDO_MAPS:
            yield offset, immediate
        offset += 16 if code == _LOAD_IMMEDIATE else 8


def _with_maps(instructions: bytes, fds: Mapping[int, int]) -> bytes:
    replaced = bytearray(instructions)
    for offset, fd in _map_references(instructions):
        struct.pack_into("<i", replaced, offset + 4, fds[fd])
    return bytes(replaced)


def main() -> None:
    """See above."""
    job, file = sys.argv[1], Path(sys.argv[2])
    if job == "compile":
        file.write_bytes(pickle.dumps(list(compile_all())))
    elif not load_all(pickle.loads(file.read_bytes())):
        sys.exit(1)


if __name__ == "__main__":
    main()
