"""The programs that are tried on every kernel: does every choice occur?"""

from __future__ import annotations

import re
from collections import defaultdict
from itertools import combinations, product
from pathlib import Path

from lb import abi, tcp
from lb.datapath import source
from lb.tcp import State
from tests.packet.variants import CHOICES, _rows, variants

_DEFINE = re.compile(r"^#define (\w+)(?:\(_\))? ?(.*)$", re.MULTILINE)
_SAME_IN_ALL = {
    *(name for name in vars(abi) if name.isupper()),
    *(f"REAL_{flag.name}" for flag in abi.RealFlag),
    *(f"SERVICE_{flag.name}" for flag in abi.ServiceFlag),
    *(f"TCP_ON_{flag.name or 'NONE'}" for flag in tcp.TRANSITIONS),
    *(f"STATE_{state.name}" for state in State),
    *("REUSABLE_STATES", "SETTLED_STATES", "ACTIVE_STATES"),
    *("PINS", "CONNECTIONS_MAX", "CACHE_CPUS", "TIMEOUTS", "TUNNELS", "ANSWERS"),
    *(f"{whose}_MAC_{n}" for whose in ("OUR", "VIRTUAL") for n in range(3)),
    *("SYNC_REFRESH_T", "FRAGMENT_TIMEOUT_T", "LOCALITY_T"),
    *(f"CACHE_SEED_{n}" for n in range(source.SEED_BYTES // 8)),
    *(f"EMBRYO_SEED_{n}" for n in range(abi.EMBRYO_SEED_BYTES // 8)),
    *(f"CHECK_FACTOR_{n}" for n in range(len(abi.CHECK_FACTORS))),
    "EMBRYO_SET_BITS",
}
"""Numbers that are no matter of configuration, or of which only the size is."""


def test_every_two_choices_meet() -> None:
    """Whatever two of them do to each other's paths, kernels see it."""
    met = {pair for row in _rows() for pair in combinations(((k, row[k]) for k in CHOICES), 2)}
    for first, second in combinations(CHOICES, 2):
        for one, two in product(CHOICES[first], CHOICES[second]):
            assert ((first, one), (second, two)) in met


def test_what_is_compiled_in_varies() -> None:
    """A constant that is the same in all of them would be a feature that no kernel is shown."""
    values = defaultdict(set)
    for variant in variants():
        text = source.program_text(
            variant.configuration, Path("/pins"), bytes(source.SEED_BYTES), bytes(abi.EMBRYO_SEED_BYTES)
        )
        for name, value in _DEFINE.findall(text.split('#line 1 "bpf/lb.c"')[0]):
            values[name].add(value)
    same = {name for name, seen in values.items() if len(seen) == 1} - _SAME_IN_ALL
    assert not same, f"no choice of tests/packet/variants.py changes these: give CHOICES one that does ({same})"


def test_names_tell_them_apart() -> None:
    """What a kernel refuses can be made again."""
    names = [variant.name for variant in variants()]
    assert len(set(names)) == len(names)
