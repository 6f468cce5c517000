"""The packet path's specification: what `bpf/` must do, and what `lb.datapath` must have it do, in Python. Pure.

Each module says what the C header of its name says, step by step and by the same names; `control` says what user space
may do to the maps meanwhile. Given a configuration, what the maps hold, a time and a frame, `packet.receive` has the
verdict, every byte that leaves, the counter that moves, the maps afterwards and the events. tests/packet holds the
program to it.

It is written to be believed, not to be fast, and leaves out what only a machine needs: a real is meant by its service
and address instead of an index, nothing is torn between CPUs, no table is ever full,
and none is remembered: what bpf/cache.h recalls must be what the table says.
"""
