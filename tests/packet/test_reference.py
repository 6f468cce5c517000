"""The program does what its specification says: what Hypothesis thinks of, and the stories in which it once did not.

`script/fuzz` goes on where this stops.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lb.datapath import source
from lb.datapath.source import Configuration
from tests.packet import fuzz
from tests.packet.frames import Shape
from tests.packet.orders import Install, Refer, Report
from tests.packet.pair import Pair
from tests.packet.steps import Ask, Claim, Elapse, Error, Life, Pieces, Send, Step, Target, TooMany

STORIES = 24
SEED = 1
ROUNDS = 5
"""At most."""


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with fuzz.pair_of_its_own() as made:
        yield made


RARE: list[Step] = [
    *(Ask(Target()), Ask(Target(service=1)), Life(Target(), (16,)), TooMany(Target())),
    *(Refer(0, 60.0, 60.0), Life(Target(client=1), (16,))),
]
"""What chance does not always bring about: no lease, a tick's worth of answers, a predecessor."""


@pytest.mark.timeout(600)
def test_stories(pair: Pair) -> None:
    """The same ones in each run, so that only a change can break it, and so many that every outcome is among them."""
    fuzz.tell(pair, RARE)
    for seed in range(SEED, SEED + ROUNDS):
        fuzz.run(pair, STORIES, seed)
        if not fuzz.missing(pair):
            return
    pytest.fail(f"never reached: {fuzz.missing(pair)}")


@pytest.mark.timeout(600)
def test_stories_of_a_director_with_two_interfaces() -> None:
    with fuzz.pair_of_its_own(several=True) as pair:
        fuzz.run(pair, STORIES // 4, SEED)
        assert pair.seen["REDIRECTED"]


BREAKS = {
    "bytes": ("__builtin_memcpy(source, sent_to, MAC_BYTES)", "__builtin_memcpy(source, sent_to, 0)"),
    "bytes to the predecessor": (
        "__builtin_memcpy(ethernet->destination, held->directors,",
        "__builtin_memcpy(ethernet->source, held->directors,",
    ),
    "the ports that an error quotes": (
        "packet->ports = (__u32)ports[0] << 16 | ports[1];\n\tpacket->tcp_flags = TCP_ACK;\t/* like",
        "packet->tcp_flags = TCP_ACK;\t/* like",
    ),
    "an error's connection": ("if (packet->is_error)\n\t\treturn relate(found", "if (0)\n\t\treturn relate(found"),
    "a half-open connection": ("(__u64)state << 48", "(__u64)STATE_UDP << 48"),
    "a tag": ("*at += sizeof(*tag);", ""),
    "what waits": ("datagrams.update(&key, &fate);", ""),
    "an early fragment": ("early->length = length;", "early->length = length - 1;"),
    "a fragment's datagram": ("packet->id = be32(host16(ip->id));", ""),
    "an IPv6 fragment's datagram": ("packet->id = extension->id;", ""),
    "a fragment within the first": ("packet->cut < found->first_bytes", "0"),
    "a counter": ("mine->name++;", ""),
    "an event": ("if (tell)\n\t\ttell_event", "if (!tell)\n\t\ttell_event"),
    "an entry": ("if (tell)\n\t\tknown->synced_t = now_t;", ""),
    "an entry recalled too long": ("line->tick == place->tick && ", ""),
    "a total": ("stats->connections += packet->opens;", ";"),
    "a SYN that comes again": ("__sync_fetch_and_add(&load->repeats, 1);", ";"),
    "the lease": ("held->until_ns = 0;", ";"),
}
STORY: list[Step] = [
    *(Life(Target(), (2,)), Elapse(1), Life(Target(), (16,)), Elapse(1), Life(Target(), (16,))),
    *(Error(Target()), Elapse(1), Error(Target()), Life(Target(), (2,)), Send(Target(), tags=1)),
    *(Pieces(Target(service=2), (2, 0, 1, 2)), Pieces(Target(service=2, client_port=1), (0, 1), Shape(id=2))),
    *(Pieces(Target(service=7), (2, 0, 1)), Pieces(Target(service=2), (0, 1), Shape(id=3), overlap=1)),
    *(Life(Target(client_port=1), (2, 2, 16)), Elapse(1), Life(Target(client_port=1), (17,))),
    *(Refer(0, 60.0, 60.0), Life(Target(client=1), (16,))),
    Claim(Target(), Target()),
]


@pytest.mark.parametrize(("right", "wrong"), BREAKS.values(), ids=BREAKS)
def test_a_program_that_differs_is_found_out(monkeypatch: pytest.MonkeyPatch, right: str, wrong: str) -> None:
    """In each of the things that are compared. Without this, a comparison that compares nothing would pass."""
    whole = source.program_text

    def broken(configuration: Configuration, directory: Path, *seeds: bytes) -> str:
        text = whole(configuration, directory, *seeds)
        assert text.count(right) == 1
        return text.replace(right, wrong)

    monkeypatch.setattr(source, "program_text", broken)
    with fuzz.pair_of_its_own() as pair, pytest.raises(AssertionError, match="reference:"):
        fuzz.tell(pair, STORY)


def test_the_story_in_which_they_are_found_out_is_told_right(pair: Pair) -> None:
    fuzz.tell(pair, STORY)


STORIES_OF_DISAGREEMENT: dict[str, list[Step]] = {
    "who refers revived a lease that a claim had ended": [
        *(Error(Target()), Elapse(1), Error(Target()), Life(Target(), (2,)), Send(Target(), tags=1)),
        *(Refer(0, 60.0, 60.0), Claim(Target(), Target()), Refer(0, 0), Ask(Target())),
    ],
    "a peer's row made an entry older, which was recalled as seen": [
        *(Life(Target(), (2, 16, 16)), Install((Report(Target(), 0, None, 2),)), Life(Target(), (16,))),
    ],
}


@pytest.mark.parametrize("story", STORIES_OF_DISAGREEMENT.values(), ids=STORIES_OF_DISAGREEMENT)
def test_what_once_differed(pair: Pair, story: list[Step]) -> None:
    fuzz.tell(pair, story)
