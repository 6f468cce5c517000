"""The pure parts of the packet path: where tables lie, which rows reals get, what is compiled, what errors say."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb import abi
from lb.abi import RealFlag
from lb.datapath import rows, source
from lb.datapath.load import explained, telling_lines
from lb.datapath.slots import first_fit
from lb.errors import DataPathError
from lb.model import Connections
from lb.service import Destination, Service, ServiceKey
from lb.tcp import State

KEY = ServiceKey(IPv4Address("192.0.2.10"), 80, 6)
MAC = b"\2\0\0\0\0\1"
REAL = np.dtype(
    [("mac", "u1", 6), ("weight", "u2"), ("flags", "u1"), ("protocol", "u1"), ("virtual_port", ">u2"), ("zero", "u4"),
     ("address", ">u8", 2), ("virtual", ">u8", 2)]
)  # fmt: skip


@given(st.lists(st.tuples(st.booleans(), st.integers(min_value=0, max_value=30)), max_size=40))
def test_regions_never_overlap_and_holes_are_used(steps: list[tuple[bool, int]]) -> None:
    taken: list[tuple[int, int]] = []
    for forget, length in steps:
        if forget and taken:
            taken.pop(0)
        base = first_fit(taken, length, 10_000)
        assert all(base + length <= b or b + count <= base or not (length and count) for b, count in taken)
        assert base <= sum(count + 30 for _, count in taken)
        taken.append((base, length))


def test_no_room_for_a_table() -> None:
    assert first_fit([(0, 4), (6, 4)], 2, 12) == 4
    assert first_fit([(0, 4), (6, 4)], 2, 10) == 4
    with pytest.raises(DataPathError, match="more than 10 slots"):
        first_fit([(0, 4), (6, 4)], 3, 10)


def service(*numbers: int, key: ServiceKey = KEY, fallback: int | None = None) -> Service:
    """With reals 10.0.0.N."""

    def destination(number: int) -> Destination:
        return Destination(IPv4Address("10.0.0.0") + number, 1, MAC)

    spare = None if fallback is None else destination(fallback)
    return Service(key, "rr", tuple(map(destination, numbers)), spare)


def test_reals_get_rows_and_keep_them() -> None:
    empty = np.zeros(8, REAL)
    first, placed = rows.place(empty, [service(1, 2)])
    assert placed == [(0, 1)]
    assert not empty["flags"].any(), "nothing is changed in place"
    second, placed = rows.place(rows.retire(first, placed), [service(3, 2), service(1, key=replace_port(81))])
    assert placed == [(2, 1), (3,)]
    retired = rows.retire(second, placed)
    assert [bool(flag & RealFlag.RETIRED) for flag in retired["flags"][:5]] == [True, False, False, False, False]
    third, placed = rows.place(retired, [service(1)])
    assert placed == [(0,)]
    assert third["flags"][0] == RealFlag.USED | RealFlag.RESOLVED


def replace_port(port: int) -> ServiceKey:
    """The same address and protocol."""
    return KEY._replace(port=port)


def test_a_fallback_that_is_a_destination_too_has_one_row() -> None:
    placed_rows, placed = rows.place(np.zeros(4, REAL), [service(1, 2, fallback=2)])
    assert placed == [(0, 1, 1)]
    assert not placed_rows["flags"][1] & RealFlag.FALLBACK
    placed_rows, placed = rows.place(np.zeros(4, REAL), [service(1, fallback=2)])
    assert placed_rows["flags"][1] & RealFlag.FALLBACK


def test_no_row_left() -> None:
    with pytest.raises(DataPathError, match="more than 16384 reals"):
        rows.place(np.zeros(2, REAL), [service(1, 2, 3)])


def test_released_rows_are_used_again() -> None:
    taken, placed = rows.place(np.zeros(2, REAL), [service(1, 2)])
    freed = rows.release(rows.retire(taken, [placed[0][1:]]), np.array([0]))
    _, placed = rows.place(freed, [service(3, 2)])
    assert placed == [(0, 1)]


CONFIGURATION = source.Configuration(
    ((KEY, "rr"), (KEY._replace(protocol=17), "mh")),
    (MAC,),
    1024,
    tuple(abi.timeouts_s(Connections()).items()),
    9,
    2,
    8,
)
SEED = bytes(range(source.SEED_BYTES))
LASTING_SEED = bytes(range(100, 100 + abi.EMBRYO_SEED_BYTES))


def test_only_what_is_configured_is_compiled_in() -> None:
    text = source.program_text(CONFIGURATION, Path("/sys/fs/bpf/lbctl/x/y"), SEED, LASTING_SEED)
    assert "#define SCHEDULERS_USED(_) _(rr, 0) _(mh, 10)\n" in text
    assert "#define VIRTUALS(_) _(0xc000020au, 3)\n" in text
    assert "#define ANY_PORT_SERVICES 0\n" in text
    assert '#include "' not in text
    any_port = replace(CONFIGURATION, services=((replace_port(0), "sh"),))
    assert "#define ANY_PORT_SERVICES 1\n" in source.program_text(any_port, Path("/x"), SEED, LASTING_SEED)


def test_the_caches_hash_is_seeded() -> None:
    text = source.program_text(CONFIGURATION, Path("/x"), SEED, LASTING_SEED)
    assert "#define CACHE_SEED_0 0x706050403020100ull\n" in text
    assert "#define CACHE_SEED_3 0x1f1e1d1c1b1a1918ull\n" in text
    assert "#define EMBRYO_SEED_0 0x6b6a696867666564ull\n" in text


@pytest.mark.parametrize(
    ("connections", "cpus", "sets"),
    [
        (1_048_576, 1, 131_072),
        (1_048_576, 8, 131_072),
        (1_048_576, 64, 16_384),
        (65_536, 2, 32_768),
        (65_537, 1, 131_072),
        (1024, 2, 512),
        (1024, 512, 2),
        (1024, 4096, 2),
    ],
)
def test_the_cache_holds_two_lines_a_connection_up_to_8_mb(connections: int, cpus: int, sets: int) -> None:
    assert 1 << abi.cache_set_bits(connections, cpus) == sets


def test_messages_name_the_file_and_line_that_people_see() -> None:
    lines = (source.program_text(CONFIGURATION, Path("/x"), SEED, LASTING_SEED) + source.probe_text(16)).splitlines()
    file, number, seen = "", 0, {}
    for line in lines:
        if line.startswith("#line "):
            _, count, name = line.split(" ")
            file, number = name.strip('"'), int(count)
            continue
        seen[file, number] = line
        number += 1
    root = Path(source.__file__).parents[2]
    for path in sorted((root / "bpf").glob("*.[ch]")):
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            if not line.startswith('#include "'):
                assert seen[f"bpf/{path.name}", number] == line


def test_maps_of_another_size_are_another_schema() -> None:
    assert source.schema(1024) == source.schema(1024)
    assert source.schema(1024) != source.schema(2048)


def test_timeouts_are_ipvs_but_for_the_three_that_can_be_set() -> None:
    timeouts = abi.timeouts_s(Connections(established=60, fin=5, udp=7))
    assert (timeouts[State.ESTABLISHED], timeouts[State.FIN_WAIT], timeouts[State.UDP]) == (60, 5, 7)
    assert timeouts[State.TIME_WAIT] == 120


@given(st.integers(min_value=0, max_value=65_535))
def test_ticks_and_seconds(seconds: int) -> None:
    down = abi.seconds(abi.ticks_of(np.array([seconds])))[0]
    assert seconds - 2 <= down <= seconds
    assert abi.ticks(seconds) * 2**30 >= seconds * 10**9


@pytest.mark.parametrize(
    "word", ["BPF program is too large. Processed 1000001 insn", "The sequence of 8193 jumps is too complex."]
)
def test_a_program_that_is_too_much_for_the_kernel_is_told_with_a_way_out(word: str) -> None:
    """The kernel's own words are of no help to who wrote the configuration."""
    told = explained(f"{word}\nprocessed 9 insns (limit 1000000)", "6.1.0")
    assert "Linux 6.1.0" in told
    assert "fewer different schedulers" in told
    assert "schedulers" not in explained("R3 !read_ok\nprocessed 2 insns (limit 1000000)", "6.1.0")


def test_telling_lines_of_a_compiler_and_of_a_verifier() -> None:
    error = "bpf/conn.h:3:1: error: use of undeclared identifier 'x'"
    assert telling_lines(f"In file included from x:1:\n{error}\n  x\n  ^\n1 error generated.") == error
    verifier = "0: (b7) r0 = 1\n1: (61) r2 = *(u32 *)(r1 +0)\nR3 !read_ok\nprocessed 2 insns (limit 1000000)"
    assert telling_lines(verifier) == "R3 !read_ok\nprocessed 2 insns (limit 1000000)"
    assert telling_lines("only this") == "only this"
