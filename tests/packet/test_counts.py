"""Counts of connections that schedulers go by: a hundred thousand lives against a model, and never a drift."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np

from lb import abi, bpf
from lb.datapath.view import View
from lb.service import Service
from lb.tcp import ACTIVE, REUSABLE, TIMEOUTS_S, State, next_state
from tests.packet.world import TCP_KEY, UDP_KEY, World, limited, real, tcp

LIVES = 100_000
PORTS = 1_000
"""Few for the half-open table: five of one set of four, whose oldest would have to go, are as good as never there."""
FLAGS = {"S": 0x02, "A": 0x10, "FA": 0x11, "R": 0x04}


def number_of(row: np.void) -> int:
    """Of the real in a row."""
    return int(abi.address_of(row["address"])) - int(real(0).address)


def counts(world: World) -> Counter[tuple[int, bool]]:
    """What the program goes by: connections by number of the real and whether they are active."""
    loads, reals = world.maps["loads"].read(), world.maps["reals"].read()
    found: Counter[tuple[int, bool]] = Counter()
    for index in np.flatnonzero(reals["flags"]):
        number = number_of(reals[index])
        found[number, True] += int(loads["active"][index] + loads["active_fix"][index])
        found[number, False] += int(loads["inactive"][index] + loads["inactive_fix"][index])
    return +found


def numbers_of(world: World) -> list[int]:
    """The number of the real in each row."""
    reals = world.maps["reals"].read()
    return [number_of(row) for row in reals[reals["flags"] != 0]]


def test_a_hundred_thousand_lives(own: World) -> None:
    """Opens, closes, resets, ports used again, timeouts: equal to the model's counts after each packet and sweep.

    The model forgets what the sweeper deletes only when the sweeper does, as the program must.
    """
    own.apply(Service(TCP_KEY, "wlc", tuple(real(number, number) for number in range(1, 6))))
    chance = random.Random(20_260_722)
    frames = {flags: bytearray(tcp(flags, 1)) for flags in FLAGS}
    model: dict[int, tuple[int, State]] = {}
    opened = 0
    while opened < LIVES:
        for _ in range(12_500):
            port = chance.randrange(1, PORTS)
            flags = chance.choice(("S", "S", "A", "FA", "R")) if port in model else "S"
            frame = frames[flags]
            frame[34:36] = port.to_bytes(2, "big")
            verdict, out, _ = bpf.run_program(own.data.program_fd, bytes(frame))
            assert verdict == bpf.TX
            known = model.get(port)
            if known is None or (flags == "S" and known[1] in REUSABLE):
                opened += 1
                known = (out[5], State.NONE)
            model[port] = (known[0], next_state(known[1], FLAGS[flags]))
            assert known[0] == out[5]
        held = Counter((number, state in ACTIVE) for number, state in model.values())
        assert counts(own) == held
        old = {port for port in model if chance.random() < 0.3}
        chosen = [(key, value) for key, value in own.entries(half_open=False) if int(key["client_port"]) in old]
        keys, values = zip(*chosen, strict=True)
        aged = np.array(values)
        aged["last_seen_t"] = [max(0, View.now_t() - abi.ticks(TIMEOUTS_S[State(s)]) - 2) for s in aged["state"]]
        own.maps["connections"].update(np.array(keys), aged)
        gone = {int(key["client_port"]) for key, value in zip(keys, aged, strict=True) if ran_out(value)}
        gone |= age_half_open(own, old)
        swept = own.data.sweep()
        assert swept.expired == len(gone)
        for port in gone:
            del model[port]
        assert counts(own) == Counter((number, state in ACTIVE) for number, state in model.values())


def age_half_open(world: World, ports: set[int]) -> set[int]:
    """As if nothing had come of those of these ports for longer than they live. Returns which ports they are."""
    found: set[int] = set()
    ticks = abi.ticks(TIMEOUTS_S[State.SYN_RECV]) + 2
    for young in world.embryos():
        for places, entries in young.batches():
            its = np.isin(entries["key"]["client_port"], list(ports))
            old = entries[its]
            old["seen_m"] -= np.uint32(ticks << abi.TICK_SHIFT - abi.MOMENT_SHIFT)
            young.write(places[its], old)
            found.update(map(int, old["key"]["client_port"]))
    return found


def ran_out(value: np.void) -> bool:
    """Is it older than its state's timeout?"""
    return bool(View.now_t() - int(value["last_seen_t"]) > abi.ticks(TIMEOUTS_S[State(int(value["state"]))]))


def test_thresholds_and_counts_are_read_back(own: World) -> None:
    own.apply(Service(TCP_KEY, "wlc", (limited(1, 8), limited(2, 9, 3), real(3, 2))))
    for port in range(1, 9):
        own.send(tcp("S", port))
    own.send(tcp("A", 1))
    own.send(tcp("FA", 1))
    (service,) = own.data.held()
    assert [(d.upper, d.lower) for d in service.destinations] == [(8, 6), (9, 3), (0, 0)]
    found = counts(own)
    for number, d in enumerate(service.destinations, start=1):
        assert (d.active, d.inactive) == (found[number, True], found[number, False])
    assert sum(d.inactive for d in service.destinations) == 1


def test_what_the_table_pushes_out_is_found_by_the_sweep(own: World) -> None:
    own.data.close(detach=True)
    small = World.open(own.node, settings=own.data.settings.model_copy(update={"max": 1024}))
    try:
        small.apply(Service(TCP_KEY, "wlc", (real(1), real(2))))
        frames = [bytearray(tcp(flags)) for flags in ("S", "A")]
        for port in range(1, 5001):
            for frame in frames:
                frame[34:36] = port.to_bytes(2, "big")
                small.send(bytes(frame))
        assert sum(counts(small).values()) == 5000
        small.data.sweep()
        assert counts(small) == held(small)
        assert sum(held(small).values()) < 2000
    finally:
        small.data.close(detach=False)


def held(world: World) -> Counter[tuple[int, bool]]:
    """Connections in the tables."""
    numbers = numbers_of(world)
    return Counter((numbers[int(value["real"])], value["state"] in ACTIVE) for _, value in world.entries())


def test_connections_from_another_director_count(own: World) -> None:
    own.apply(Service(TCP_KEY, "wlc", (real(1), real(2))), Service(UDP_KEY, "lc", (real(1),)))
    for port in range(1, 11):
        own.send(tcp("S", port))
        own.send(tcp("A", port))
    (rows,) = own.data.snapshot()
    before = counts(own)
    own.data.install(rows)
    assert counts(own) == before, "the same ones again"
    rows["state"] = State.FIN_WAIT
    own.data.install(rows)
    assert counts(own) == {(1, False): 5, (2, False): 5}
    own.forget()
    own.data.install(rows)
    assert counts(own) == {(1, False): 5, (2, False): 5}


def test_a_scheduler_that_begins_to_count_finds_the_table_counted(own: World) -> None:
    own.apply(Service(TCP_KEY, "fo", (real(1, 2), real(2))))
    for port in range(1, 11):
        own.send(tcp("S", port))
    assert counts(own) == {}
    own.apply(Service(TCP_KEY, "lc", (real(1, 2), real(2))))
    assert counts(own) == {(1, True): 10}
    assert [own.real_of(tcp("S", port)) for port in range(11, 15)] == [2] * 4
