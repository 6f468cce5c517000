"""Time that stands still until a test moves it: for the packet program and for the user space that tends it.

bpf/clock.h is the one place where the program looks at a clock. Here another text of the same function takes its
place, which reads a pinned map; not another byte of the program is different.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np

from lb import abi, bpf
from lb.datapath import pins, source
from lb.datapath.source import Configuration

START_NS = 1_000_000 << abi.TICK_SHIFT
"""The first moment of a tick: a clock that lags behind is still in the one before."""

_HEADER = re.compile(r'(#line 1 "bpf/clock\.h"\n).*?(?=#line \d+ "bpf/lb\.c"\n)', re.DOTALL)
_IN_ITS_PLACE = """
BPF_TABLE_PINNED("array", __u32, __u64, test_clock, 1, PINS "/test_clock");

static __always_inline __u64 read_clock(void)
{
	__u32 zero = 0;
	__u64 *now_ns = test_clock.lookup(&zero);

	return now_ns ? *now_ns : 0;
}
"""


@dataclass
class Clock:
    """now_ns: user space's time. lag_ns: how far the program's is behind; it reads a coarser clock."""

    now_ns: int = START_NS
    lag_ns: int = 0

    @property
    def program_ns(self) -> int:
        """The packet program's time."""
        return self.now_ns - self.lag_ns

    def monotonic_ns(self) -> int:
        """In the place of time.monotonic_ns."""
        return self.now_ns

    @contextlib.contextmanager
    def in_force(self) -> Iterator[None]:
        """Programs that are loaded within go by this clock, and so do those that tend them."""
        original = source.program_text

        def program_text(configuration: Configuration, directory: Path, *seeds: bytes) -> str:
            text = original(configuration, directory, *seeds)
            text, count = _HEADER.subn(lambda found: found[1] + _IN_ITS_PLACE, text)
            assert count == 1, "bpf/clock.h is not where it was"
            return text

        with (
            mock.patch.object(source, "program_text", program_text),
            mock.patch("lb.datapath.view.time", self),
            mock.patch("lb.datapath.lasting.time", self),
        ):
            yield

    def set_program(self, node: str) -> None:
        """Tell a node's program what time it is."""
        directory = pins.directory_of(node)
        assert directory is not None
        opened = bpf.Map(bpf.open_pinned(directory / "test_clock"), np.dtype("u4"), np.dtype("u8"))
        opened.update(np.zeros(1), np.array([self.program_ns]))
        opened.close()
