"""keepalived's checkers (SEED_TABLES 7.4) as `[virtual.check]`. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from lb.kinds import kind_of
from lb.migrate.blocks import Block
from lb.migrate.draft import Draft, Table, Value

CHECKERS = (
    *("TCP_CHECK", "HTTP_GET", "SSL_GET", "SMTP_CHECK", "DNS_CHECK", "MISC_CHECK", "UDP_CHECK", "PING_CHECK"),
    *("BFD_CHECK", "FILE_CHECK"),
)
_SERVICES = {"HTTP_GET": "http", "SSL_GET": "https", "SMTP_CHECK": "smtp", "DNS_CHECK": "dns"}
_KEYS = {
    "path": "request", "digest": "digest", "virtualhost": "virtualhost", "regex": "receive", "regex_no_match": "refuse",
    "sni_name": "sni", "helo_name": "request", "name": "request", "type": "record", "payload": "request_hex",
    "require_reply": "receive_hex",
}  # fmt: skip
_TIMES = ("connect_timeout", "retry", "nb_get_retry", "misc_timeout")
_RETRIES = {"DNS_CHECK": 3, "MISC_CHECK": 0}
_CONNECT_TIMEOUT_S, _RETRY, _DELAY_LOOP_S = 5, 1, 60
_TAKEN = {*_KEYS, *_TIMES, "url", "status_code", "connect_port", "misc_path", "misc_dynamic", "delay_loop"}
_HINTS = {
    "delay_before_retry": "a check is repeated after interval",
    "warmup": "checks begin at once, each at a time of its own",
    "enable_sni": "a name is asked for wherever sni or virtualhost says one",
    "connect_ip": "a real is asked at its own address",
}


def translate_checks(draft: Draft, server: Block, real: Block) -> tuple[Table, list[Table]]:
    """`[virtual.check]` by what one real of a virtual is asked, and its parts where that are several questions."""
    checkers = [block for block in real.inside if block.key in CHECKERS]
    questions = [question for checker in checkers for question in _questions(draft, checker)]
    if not questions:
        return {"type": "on"}, []
    times = _times(server, real, checkers[0])
    if any(checker.get("misc_dynamic") for checker in checkers):
        times["dynamic_weight"] = True
    if len(questions) == 1:
        return {**questions[0], **times}, []
    return {"type": "all", **times}, questions


def _questions(draft: Draft, checker: Block) -> Iterator[Table]:
    if checker.key in ("BFD_CHECK", "FILE_CHECK"):
        draft.note(checker.line, checker.said, 'is not there; write type = "external" with a program')
        return
    for url in [block for block in checker.inside if block.key == "url"] or [checker]:
        base = _base(checker)
        if port := checker.get("connect_port"):
            base["port"] = int(port.value)
        reads = kind_of(str(base["type"]), str(base.get("service", "http"))).keys
        for source in {id(block): block for block in (checker, url)}.values():
            for block in source.inside:
                if block.key == "status_code":
                    base["status"] = _codes(block.value)
                elif block.key in _KEYS and _KEYS[block.key] in reads:
                    base[_KEYS[block.key]] = block.value
                elif block.key not in _TAKEN or block.key in _KEYS:
                    draft.note(block.line, block.said, _HINTS.get(block.key, f"{checker.key} has no such thing here"))
        yield base


def _base(checker: Block) -> Table:
    if checker.key in _SERVICES:
        defaults: Table = {"request": ".", "record": "SOA"} if checker.key == "DNS_CHECK" else {}
        return {"type": "negotiate", "service": _SERVICES[checker.key], **defaults}
    if checker.key == "MISC_CHECK":
        path = checker.get("misc_path")
        return {"type": "external", "command": path.value.split() if path else ["/bin/true"]}
    if checker.key == "UDP_CHECK" and checker.get("payload") and checker.get("require_reply"):
        return {"type": "negotiate", "service": "simpleudp"}
    return {"type": "ping" if checker.key == "PING_CHECK" else "connect"}


def _codes(words: str) -> Value:
    """`200`, `200 302`, `200-204`: whole numbers."""
    codes: list[int] = []
    for word in words.replace(",", " ").split():
        first, _, last = word.partition("-")
        codes += range(int(first), int(last or first) + 1)
    return codes


def _times(server: Block, real: Block, checker: Block) -> Table:
    places = (checker, real, server)

    def said(*keys: str) -> int | None:
        found = next((block for place in places if (block := place.get(*keys))), None)
        return int(float(found.value)) if found else None

    interval, timeout = said("delay_loop"), said("misc_timeout") or said("connect_timeout")
    retries = said("retry", "nb_get_retry")
    usual = _RETRIES.get(checker.key, _RETRY)
    return {
        "interval": f"{interval or _DELAY_LOOP_S}s",
        "timeout": f"{timeout or _CONNECT_TIMEOUT_S}s",
        "failures": 1 + (usual if retries is None else retries),
    }
